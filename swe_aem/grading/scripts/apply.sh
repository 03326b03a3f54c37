# Applies PATCH (a file) to the work tree. Inputs: those of git_env.sh, PATCH, WAY (git, patch), IN_THE_WAY (lines:
# untracked files of the image that the patch creates too). Prints "TOKEN applied HOW" or "TOKEN refused" on a line of its
# own; exits with 22 if no patch at all could be applied.
trap 'rm -rf "$private"' EXIT

attempt() {
  local how=$1
  shift
  if "$@" >"$private/attempt" 2>&1; then
    printf '\n%s applied %s\n' "$TOKEN" "$how"
    exit 0
  fi
  printf '\n%s:\n' "$how"
  head -c 1000 "$private/attempt"
}

git rev-parse -q --verify HEAD >/dev/null || { echo "$WORKDIR is no git repository"; exit 22; }
case $WAY in
git)
  attempt as-is git apply --whitespace=nowarn "$PATCH"
  while IFS= read -r name; do
    [ -z "$name" ] || rm -f -- "./$name"
  done <<<"$IN_THE_WAY"
  attempt cleared git apply --whitespace=nowarn "$PATCH"
  attempt 3way git apply --whitespace=nowarn --3way "$PATCH"
  ;;
patch)
  if command -v patch >/dev/null; then
    attempt fuzz patch --batch --forward --no-backup-if-mismatch --fuzz=5 -p1 -i "$PATCH"
  fi
  ;;
esac
printf '\n%s refused\n' "$TOKEN"
