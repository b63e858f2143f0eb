// Package test runs against the node of `jackfield dev`, which must be running.
package test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func connect(query string) string {
	// Without an input, the connection is closed at once. A refusal is on stderr.
	output, _ := exec.Command("jackfield", "connect", query).CombinedOutput()
	return string(output)
}

func visit(t *testing.T) (number int) {
	_, greeting, _ := strings.Cut(connect("?name=test"), "welcome, test: visit ")
	if _, err := fmt.Sscan(greeting, &number); err != nil {
		t.Fatal(err)
	}
	return number
}

func TestWhoeverComesIsCounted(t *testing.T) {
	if first, second := visit(t), visit(t); second != first+1 {
		t.Errorf("%d, and then %d", first, second)
	}
}

func TestNobodyComesInWithoutAName(t *testing.T) {
	if refusal := connect(""); !strings.Contains(refusal, "say ?name=") {
		t.Error(refusal)
	}
}
