#!/bin/sh
# Runs against the node of `jackfield dev`, which must be running.
set -eu
visit() {
    jackfield connect '?name=test' </dev/null | sed -n 's/^welcome, test: visit //p'
}
first=$(visit)
test "$(visit)" -eq $((first + 1))
jackfield connect '' </dev/null 2>&1 | grep -q 'say ?name='
echo "all is well"
