package jackfield

import (
	"strings"

	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	"jackfield/internal/wit/runtime"
	"jackfield/internal/wit/types"
)

// This file is what all calls of the node have in common. What the node answers lies in memory that
// is soon used again, so it is copied while the call goes on.

type unit = wit_types.Unit

// ask calls the node, and copies what it answers.
func ask[T, U any](call func() wit_types.Result[T, wit.Error], copy func(T) U) (answer U, err error) {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := call()
	if result.IsErr() {
		refused := result.Err()
		return answer, &Error{codes[refused.Code], strings.Clone(refused.Message)}
	}
	return copy(result.Ok()), nil
}

// tell calls the node, which answers nothing.
func tell(call func() wit_types.Result[unit, wit.Error]) error {
	_, err := ask(call, same[unit])
	return err
}

var codes = [...]Code{
	wit.ErrorCode_InvalidArgument: InvalidArgument,
	wit.ErrorCode_NotFound:        NotFound,
	wit.ErrorCode_Closed:          Closed,
	wit.ErrorCode_Taken:           Taken,
	wit.ErrorCode_Overloaded:      Overloaded,
	wit.ErrorCode_LimitExceeded:   LimitExceeded,
	wit.ErrorCode_Unreachable:     Unreachable,
	wit.ErrorCode_TimedOut:        TimedOut,
	wit.ErrorCode_Denied:          Denied,
	wit.ErrorCode_Internal:        Internal,
}

func same[T any](answer T) T { return answer }

// copied copies strings, to strings of another type if need be.
func copied[To, From ~string](texts []From) []To {
	copies := make([]To, len(texts))
	for i, text := range texts {
		copies[i] = To(strings.Clone(string(text)))
	}
	return copies
}

// plain is the same strings, as plain ones.
func plain[From ~string](texts []From) []string {
	strings := make([]string, len(texts))
	for i, text := range texts {
		strings[i] = string(text)
	}
	return strings
}

func copiedPairs(pairs []wit_types.Tuple2[string, string]) []Pair {
	copies := make([]Pair, len(pairs))
	for i, pair := range pairs {
		copies[i] = Pair{strings.Clone(pair.F0), strings.Clone(pair.F1)}
	}
	return copies
}

func copiedMap(pairs []wit_types.Tuple2[string, string]) map[string]string {
	copies := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		copies[strings.Clone(pair.F0)] = strings.Clone(pair.F1)
	}
	return copies
}

func copiedOption(text wit_types.Option[string]) string { return strings.Clone(text.SomeOr("")) }

func copiedReach(reach wit.Reach) Reach {
	return Reach{reach.Clients, reach.Dropped, copied[string](reach.Missing)}
}

func copiedCount(count wit.Count) Count {
	return Count{count.Value, copied[string](count.Missing)}
}

func copiedPage[T ~string](page wit.Page) Page[T] {
	return Page[T]{copied[T](page.Items), copiedOption(page.Next), copied[string](page.Missing)}
}

// pairsOf is a map as the contract has it.
func pairsOf(values map[string]string) []wit_types.Tuple2[string, string] {
	pairs := make([]wit_types.Tuple2[string, string], 0, len(values))
	for name, value := range values {
		pairs = append(pairs, wit_types.Tuple2[string, string]{F0: name, F1: value})
	}
	return pairs
}

// option is a text that may be missing; "" is none.
func option(text string) wit_types.Option[string] {
	if text == "" {
		return wit_types.None[string]()
	}
	return wit_types.Some(text)
}

// lowered is the message as the contract has it; or the error of who made it.
func (message Message) lowered(function string) (wit.Message, error) {
	switch {
	case message.wrong != nil:
		return wit.Message{}, misuse(function, "message", message.wrong.Error())
	case message.binary:
		return wit.MakeMessageBinary(message.bytes), nil
	}
	if err := text(function, "message", message.text); err != nil {
		return wit.Message{}, err
	}
	return wit.MakeMessageText(message.text), nil
}
