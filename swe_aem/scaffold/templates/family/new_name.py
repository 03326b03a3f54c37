"""A family: how the rows of a data set become tasks."""

from typing import Any, ClassVar

import swe_aem as sa


class NewName(sa.Settings):
    """Rows that name a git repository and the commit that fixed it: `id`, `issue`, `repo_path`, `fix`, `failing`."""

    name: ClassVar[str] = "new-name"
    columns: ClassVar[str] = "id, issue, repo_path, fix, failing"

    def recognise(self, row: dict[str, Any]) -> bool:
        """Is this a row of this family? Asked where no built-in family knows its columns."""
        return {"issue", "repo_path", "fix", "failing"} <= row.keys()

    def read(self, where: str, row: dict[str, Any], reading: sa.Reading) -> sa.TaskRecord:
        """The task of a row; a `sa.errors.UserError` leaves the row out, by name."""
        return sa.git_task(
            row["id"], row["repo_path"], row["issue"], row["failing"], fix_commit=row["fix"], split=reading.split
        )
