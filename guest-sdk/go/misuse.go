package jackfield

import (
	"strconv"
	"unicode/utf8"

	"jackfield/internal/author"
)

// text checks arguments that must be text: an argument that is not UTF-8 would end the event.
func text[T ~string](function, argument string, texts ...T) error {
	for _, text := range texts {
		if !utf8.ValidString(string(text)) {
			shown := string(text)
			if len(shown) > 100 {
				shown = shown[:100]
			}
			return misuse(function, argument, "it is not UTF-8 text: "+strconv.QuoteToASCII(shown))
		}
	}
	return nil
}

// misuse is the error of an argument that can't be meant: it names the function, the argument, and
// where in the author's source the call stands.
func misuse(function, argument, why string) error {
	return &Error{InvalidArgument, function + ": " + argument + ": " + why + ", at " + author.Position(author.Frames())}
}
