# Run in a container of swe-aem/micro:1: makes of it an image in the shape of every family, around one small repository.
# What is committed has a fixed author and date, so its ids are those in the rows beside this file.
# $1: "buggy" (SWE-bench's relatives, R2E-Gym, Multi-SWE-bench, Harbor) or "clean" (SWE-smith plants the bug itself).
set -euo pipefail
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE=2024-01-01T00:00:00Z
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org GIT_COMMITTER_DATE=2024-01-01T00:00:00Z

mkdir -p /opt/miniconda3/bin
echo 'conda() { :; }' >/opt/miniconda3/bin/activate

mkdir -p /testbed/tests && cd /testbed
git init -q -b main .
printf 'def add(a, b):\n    return a - b\n\n\ndef mul(a, b):\n    return a * b\n' >calc.py
printf 'from calc import add, mul\n\n\ndef test_mul():\n    assert mul(2, 3) == 6\n' >tests/test_calc.py
: >tests/__init__.py  # so that a plain `pytest` finds calc.py
echo __pycache__/ >.gitignore
git add -A && git commit -q -m start && git tag start
sed -i 's/a - b/a + b/' calc.py
printf '\n\ndef test_add():\n    assert add(2, 3) == 5\n' >>tests/test_calc.py
git add -A && git commit -q -m "the fix" && git branch future
git diff start future -- calc.py >/fix.patch
git diff start future -- tests >/test.patch
if [ "$1" = clean ]; then
  rm /fix.patch /test.patch
  exit
fi
git reset -q --hard start

# Multi-SWE-bench: the repository below /home, and what it is evaluated with beside it.
cp -r /testbed /home/calc
mv /fix.patch /test.patch /home/
printf '#!/bin/bash\nset -e\n\ncd /home/calc\ngit apply /home/test.patch\npython3 -m pytest -rA\n' >/home/test-run.sh
printf '#!/bin/bash\nset -e\n\ncd /home/calc\ngit apply /home/test.patch /home/fix.patch\npython3 -m pytest -rA\n' >/home/fix-run.sh

# SWE-rebench-V2: the repository in a directory of its name.
cp -r /testbed /calc

# R2E-Gym: tests outside of the repository, a script and an environment in it.
python3 -m venv --without-pip --system-site-packages .venv
echo "PYTHONWARNINGS='ignore::UserWarning' .venv/bin/python -W ignore -m pytest -rA r2e_tests" >run_tests.sh
mkdir /r2e_tests
cat >/r2e_tests/test_1.py <<'TESTS'
from calc import add, mul


def test_add():
    assert add(2, 3) == 5


class TestMul:
    def test_mul(self):
        assert mul(2, 3) == 6


def test_known_bug():
    assert add("2", 3) == 5
TESTS

