# Prints "TOKEN head SHA" for a repository that is prepared already. Inputs: those of git_env.sh.
trap 'rm -rf "$private"' EXIT
head=$(git rev-parse -q --verify 'HEAD^{commit}') || { echo "HEAD is no commit"; exit 21; }
echo "$TOKEN head $head"
