package bucket

import (
	"strings"
	"unicode/utf8"

	"jackfield"
	"jackfield/internal/author"
	"jackfield/internal/bindings/imports/wasi_keyvalue_store"
	"jackfield/internal/wit/runtime"
	"jackfield/internal/wit/types"
)

// What all calls of the store have in common, as in jackfield's host.go.

type unit = wit_types.Unit

func ask[T, U any](
	call func() wit_types.Result[T, wasi_keyvalue_store.Error], copy func(T) U,
) (answer U, err error) {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := call()
	if result.IsErr() {
		return answer, failure(result.Err())
	}
	return copy(result.Ok()), nil
}

func tell(call func() wit_types.Result[unit, wasi_keyvalue_store.Error]) error {
	_, err := ask(call, same[unit])
	return err
}

func failure(err wasi_keyvalue_store.Error) error {
	switch err.Tag() {
	case wasi_keyvalue_store.Error_NoSuchStore:
		return jackfield.Errorf(jackfield.NotFound, "there is no such bucket")
	case wasi_keyvalue_store.Error_AccessDenied:
		return jackfield.Errorf(jackfield.Denied, "the bucket is not granted")
	}
	return &jackfield.Error{Code: jackfield.Failed, Message: strings.Clone(err.Other())}
}

// text checks arguments that must be text: an argument that is not UTF-8 would end the event.
func text(function, argument string, texts ...string) error {
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return jackfield.Errorf(jackfield.InvalidArgument,
				"%s: %s: it is not UTF-8 text: %.100q, at %s",
				function, argument, text, author.Position(author.Frames()))
		}
	}
	return nil
}
