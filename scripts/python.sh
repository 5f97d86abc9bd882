# Read by the scripts beside it: which Python runs them. $PYTHON, else that of .venv here, else the one on the path.
python=${PYTHON-}
if [ -z "$python" ]; then
  python=.venv/bin/python
  [ -x "$python" ] || python=python3
fi
