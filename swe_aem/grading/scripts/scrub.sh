# Removes everything later than HEAD from a repository and proves it. Inputs: those of git_env.sh, BASE, MAX_SETUP_COMMITS.
#
# Prints "TOKEN head SHA" and exits with 0, or prints what is wrong, one line each, and exits with 21.
# Cheap removals always run; the object store is repacked only if it holds something that HEAD does not reach.
trap 'rm -rf "$private"' EXIT

repo() { git --git-dir="$1" "${@:2}"; }

# What git keeps beside its refs that can name or hold other commits. `logs` are the reflogs.
leftovers='FETCH_HEAD ORIG_HEAD MERGE_HEAD MERGE_MSG MERGE_MODE CHERRY_PICK_HEAD REVERT_HEAD REBASE_HEAD AUTO_MERGE SQUASH_MSG
  BISECT_LOG BISECT_NAMES BISECT_TERMS BISECT_START COMMIT_EDITMSG logs worktrees rebase-merge rebase-apply sequencer
  index.lock HEAD.lock packed-refs.lock gc.pid info/grafts info/refs objects/info/packs objects/info/commit-graph
  objects/info/commit-graphs objects/pack/multi-pack-index'

remove_leftovers() {
  local dir=$1 name hook
  for name in $leftovers; do
    [ -e "$dir/$name" ] && rm -rf "${dir:?}/$name"
  done
  for hook in "$dir"/hooks/*; do
    [[ -e $hook && $hook != *.sample ]] && rm -rf "$hook"
  done
  for name in "$dir"/objects/pack/*.{keep,promisor,bitmap} "$dir"/objects/{pack/tmp_,incoming-,tmp_objdir-}*; do
    [ -e "$name" ] && rm -rf "$name"
  done
}

# Replaces an index that git cannot read by that of HEAD, as `git reset` does: no work tree is touched.
replace_broken_index() {
  [ ! -e "$1/index" ] || repo "$1" ls-files >"$private/names" 2>&1 || { rm -rf "$1/index"; repo "$1" read-tree HEAD; }
}

# Sections of the configuration that lead to other repositories, or to objects that are not there.
foreign_settings() {
  repo "$1" config --file "$1/config" --name-only --get-regexp \
    '^(remote|branch|url)\.|^extensions\.partialclone$|^core\.(hookspath|fsmonitor|alternaterefscommand)$'
}

remove_foreign_settings() {
  local dir=$1 name
  foreign_settings "$dir" | sort -u | while read -r name; do
    repo "$dir" config --file "$dir/config" --unset-all "$name"
  done
}

# Every ref but the current branch and the tags of ancestors: version tools derive package versions from those.
other_refs() {
  local dir=$1 head_ref
  head_ref=$(repo "$dir" symbolic-ref -q HEAD)
  repo "$dir" for-each-ref --format='%(refname)' | grep -vxF -e "${head_ref:-none}" >"$private/refs" || return 0
  repo "$dir" for-each-ref --merged HEAD --format='%(refname)' refs/tags >"$private/keep"
  grep -vxFf "$private/keep" "$private/refs"
}

# Writes the reference store anew instead of deleting from it: that also drops broken and symbolic references.
remove_other_refs() {
  local dir=$1 head_ref
  [ -n "$(other_refs "$dir")" ] || return 0
  head_ref=$(repo "$dir" symbolic-ref -q HEAD) && echo "$(repo "$dir" rev-parse HEAD) $head_ref" >"$private/packed"
  repo "$dir" for-each-ref --merged HEAD --format='%(objectname) %(refname)' refs/tags >>"$private/packed"
  rm -rf "${dir:?}/refs" "$dir/packed-refs"
  mkdir -p "$dir/refs/heads" "$dir/refs/tags" && cp "$private/packed" "$dir/packed-refs"
  : >"$private/packed"
}

# Objects that are present although neither HEAD, nor a kept tag, nor the index needs them.
extra_objects() {
  repo "$1" rev-list --objects --indexed-objects --all HEAD >"$private/walk" || { echo "the history of HEAD is incomplete"; return; }
  repo "$1" cat-file --batch-all-objects --batch-check='%(objectname)' >"$private/present" || echo "unreadable objects"
  comm -13 <(cut -d' ' -f1 "$private/walk" | sort -u) "$private/present" >"$private/extra" ||
    echo "the objects cannot be compared"
  [ ! -s "$private/extra" ] || list "object that nothing needs:" "$(head -n 20 "$private/extra")"
}

# Prints the words of $2 on lines of their own behind $1; builtins only, for most of the time there are none.
list() { [ -z "$2" ] || printf "$1 %s\n" $2; }

findings() {
  local dir=$1 name
  for name in $leftovers objects/info/alternates objects/info/http-alternates; do
    [ -e "$dir/$name" ] && echo "$dir/$name is left"
  done
  list "setting" "$(foreign_settings "$dir")"
  list "ref" "$(other_refs "$dir")"
  list "commit that is not in HEAD:" "$(repo "$dir" rev-list -n 20 --all --not HEAD)"
  extra_objects "$dir"
}

drop_extra_objects() {
  local dir=$1
  repo "$dir" repack -a -d -n -q || return
  rm -f "$dir"/objects/info/{alternates,http-alternates}
  repo "$dir" prune --expire=now && repo "$dir" prune-packed -q
}

scrub() {
  local dir=$1
  repo "$dir" rev-parse -q --verify 'HEAD^{commit}' >/dev/null || { echo "$dir: HEAD is no commit"; return; }
  replace_broken_index "$dir"
  remove_leftovers "$dir"
  [ -n "$(findings "$dir")" ] || return 0
  remove_foreign_settings "$dir"
  remove_other_refs "$dir"
  [ -n "$(findings "$dir")" ] || return 0
  drop_extra_objects "$dir"
  findings "$dir"
}

if [ -d .git ]; then
  main="$PWD/.git"
else
  echo "$WORKDIR is not the top of a git repository"
  exit 21
fi
head=$(repo "$main" rev-parse -q --verify 'HEAD^{commit}') || { echo "HEAD is no commit"; exit 21; }
if [ "$head" != "$BASE" ] && repo "$main" cat-file -e "$BASE^{commit}" 2>/dev/null; then
  repo "$main" merge-base --is-ancestor "$BASE" "$head" || { echo "HEAD $head does not contain the base commit $BASE"; exit 21; }
  ahead=$(repo "$main" rev-list --count "$BASE..$head")
  [ "$ahead" -le "$MAX_SETUP_COMMITS" ] || { echo "HEAD is $ahead commits ahead of the base commit $BASE"; exit 21; }
fi
# Submodules and nested clones are repositories of their own; `objects` marks a git directory, also one without a work tree.
find . -mindepth 3 -type d -name objects -path '*.git/*' ! -path './.git/objects' -prune -print >"$private/nested"
{
  scrub "$main"
  while read -r name; do
    nested="$PWD/${name#./}"
    [ -f "${nested%/objects}/HEAD" ] && scrub "${nested%/objects}"
  done <"$private/nested"
} >"$private/findings" 2>"$private/errors"
if [ -s "$private/findings" ]; then
  cat "$private/findings" "$private/errors"
  exit 21
fi
echo "$TOKEN head $head"
