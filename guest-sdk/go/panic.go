package jackfield

import (
	"fmt"
	"os"
	"strings"

	"jackfield/internal/author"
	"jackfield/internal/wit/runtime"
)

// reportPanic says what went wrong and where, in the words by which a node knows a panic, and ends
// the event. Go's own report begins otherwise, and a node would not know it for one.
func reportPanic(cause any) {
	frames := author.Frames()
	var text strings.Builder
	fmt.Fprintf(&text, "panicked at %s: %v\n", author.Position(frames), cause)
	for _, frame := range frames {
		fmt.Fprintf(&text, "  %s (%s)\n", frame.Function, author.Line(frame))
	}
	os.Stderr.WriteString(text.String())
	runtime.Trap()
}
