package jackfield

import (
	"fmt"
	"strings"

	"jackfield/internal/bindings/imports/jackfield_plugin_runtime"
)

// A Level is how much a log line matters.
type Level uint8

const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

// Log writes a line into the node's log, marked as this plugin's. A line has at most 8 KiB, and an
// event 100 lines.
func Log(level Level, text string) {
	jackfield_plugin_runtime.Log(uint8(min(level, LevelError)), strings.ToValidUTF8(text, "\uFFFD"))
}

// Logf is Log, with a format as fmt.Sprintf has it.
func Logf(level Level, format string, arguments ...any) {
	Log(level, fmt.Sprintf(format, arguments...))
}
