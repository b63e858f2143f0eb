// Package author finds the places in the author's source that an error or a panic is about.
package author

import (
	"path"
	"runtime"
	"strconv"
	"strings"
)

// Frames returns the caller's stack without the functions of Go's runtime and of the SDK.
func Frames() []runtime.Frame {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	var found []runtime.Frame
	for {
		frame, more := frames.Next()
		if name := frame.Function; name != "" && !isOurs(name) {
			found = append(found, frame)
		}
		if !more {
			return found
		}
	}
}

func isOurs(function string) bool {
	for _, prefix := range []string{"runtime.", "internal/", "jackfield.", "jackfield/", "jackfield:", "wasm_"} {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}

// Position returns file and line of the first frame that is in the plugin itself, as main.go:12.
func Position(frames []runtime.Frame) string {
	for _, frame := range frames {
		if strings.HasPrefix(frame.Function, "main.") || strings.HasPrefix(frame.Function, "local/") {
			return Line(frame)
		}
	}
	if len(frames) == 0 {
		return "an unknown place"
	}
	return Line(frames[0])
}

// Line returns a frame's file and line.
func Line(frame runtime.Frame) string {
	return path.Base(frame.File) + ":" + strconv.Itoa(frame.Line)
}
