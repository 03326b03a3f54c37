# Turns the repository of an image into the one that a task starts from. Inputs: those of git_env.sh, ROLE (agent, grader),
# SETUP (file with the setup patch, or empty), HIDDEN (lines: paths that no agent may see).
#
# Prints "TOKEN kept" or "TOKEN squashed", for what became of the history, or what is wrong and exits with 22. For an agent
# hidden paths are removed, and where the history holds what the task hides (the code before the setup patch, a hidden
# file) HEAD becomes a commit without parents; the history scrub, which comes next, drops the rest and proves it.
trap 'rm -rf "$private" ${SETUP:+"$SETUP"}' EXIT
fail() { echo "$*"; exit 22; }
inside=()

commit() {
  export GIT_AUTHOR_NAME=swe-aem GIT_AUTHOR_EMAIL=swe-aem@localhost GIT_AUTHOR_DATE='2000-01-01T00:00:00Z'
  export GIT_COMMITTER_NAME=swe-aem GIT_COMMITTER_EMAIL=swe-aem@localhost GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
  local tree sha
  tree=$(git write-tree) && sha=$(git commit-tree -m start "$@" "$tree") && git update-ref HEAD "$sha" ||
    fail "the start cannot be committed"
}

if [ ! -e .git ]; then
  git init -q . || fail "$WORKDIR is no git repository and cannot become one"
  made=yes
fi
while IFS= read -r name; do
  case $name in "" | /*) ;; *) inside+=("$name") ;; esac
done <<<"$HIDDEN"
# A virtual environment in the work tree is no part of it.
mkdir -p .git/info
find . -mindepth 2 -maxdepth 2 -name pyvenv.cfg -printf '/%P\n' | sed 's|pyvenv.cfg$||' >>.git/info/exclude
if [ -n "${made-}" ]; then
  git add -A . || fail "the work tree cannot be added to a repository"
  commit
fi
git rev-parse -q --verify 'HEAD^{commit}' >/dev/null || fail "HEAD is no commit"

if [ -n "$SETUP" ]; then
  git apply --whitespace=nowarn "$SETUP" 2>&1 && git apply --cached --whitespace=nowarn "$SETUP" 2>&1 ||
    fail "the setup patch does not apply"
  commit -p HEAD
fi

history=kept
if [ "$ROLE" = agent ]; then
  if [ ${#inside[@]} -gt 0 ]; then
    known=$(git --literal-pathspecs log -n 1 --format=%H --all HEAD -- "${inside[@]}") || fail "the history cannot be read"
    git --literal-pathspecs rm -r -q --cached --ignore-unmatch -- "${inside[@]}" || fail "hidden paths stay in the index"
  fi
  while IFS= read -r name; do
    [ -z "$name" ] || rm -rf -- "$name" || fail "$name cannot be removed"
  done <<<"$HIDDEN"
  if [ -n "$SETUP${known-}" ]; then
    commit
    history=squashed
  fi
  # Compiled or copied when the image was made: from the code before the setup patch, and from hidden tests.
  if [ -n "$SETUP" ]; then
    find . -name __pycache__ -type d -prune -exec rm -rf {} + && find . -name '*.pyc' -delete || fail "compiled code stays"
    [ -n "$(git ls-files build)" ] || rm -rf build/lib*
  fi
fi
echo "$TOKEN $history"
