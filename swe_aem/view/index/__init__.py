"""The index of a rollout store: lists, filters, search, groups and solve rates without reading the store.

`StoreIndex(DIR, Indexer())` is asked by pages; `swe_aem.view.index.model` has what it is asked and what it answers, and
`swe_aem.view.index.words` says how texts are searched.
"""

from swe_aem.view.index.indexer import Indexer
from swe_aem.view.index.model import (
    DamagedRow,
    FacetName,
    FacetValue,
    Filter,
    Group,
    GroupMember,
    GroupOrder,
    GroupPage,
    IndexedTrajectory,
    Matrix,
    MatrixCell,
    MatrixColumn,
    MatrixOrder,
    MatrixRow,
    Neighbours,
    Order,
    Page,
    Progress,
    Snippet,
    SortColumn,
    TextPlace,
    Totals,
)
from swe_aem.view.index.store_index import StoreIndex
from swe_aem.view.index.words import has_words

__all__ = [
    "DamagedRow",
    "FacetName",
    "FacetValue",
    "Filter",
    "Group",
    "GroupMember",
    "GroupOrder",
    "GroupPage",
    "IndexedTrajectory",
    "Indexer",
    "Matrix",
    "MatrixCell",
    "MatrixColumn",
    "MatrixOrder",
    "MatrixRow",
    "Neighbours",
    "Order",
    "Page",
    "Progress",
    "Snippet",
    "SortColumn",
    "StoreIndex",
    "TextPlace",
    "Totals",
    "has_words",
]
