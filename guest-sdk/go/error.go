package jackfield

import (
	"errors"
	"fmt"
)

// An Error is a call's failure: a code for a program, and a sentence for a person who reads a
// log. Every error that a function of this package returns is an *Error.
type Error struct {
	Code    Code
	Message string
}

// Errorf makes an Error, for instance to answer a call.
func Errorf(code Code, format string, arguments ...any) *Error {
	return &Error{code, fmt.Sprintf(format, arguments...)}
}

// Error returns the sentence and the code.
func (err *Error) Error() string { return err.Message + " (" + string(err.Code) + ")" }

// Unwrap returns the code, so that errors.Is(err, jackfield.NotFound) tells errors apart.
func (err *Error) Unwrap() error { return err.Code }

// CodeOf returns the code of an error, or "" if it has none.
func CodeOf(err error) Code {
	if found, ok := errors.AsType[*Error](err); ok {
		return found.Code
	}
	return ""
}
