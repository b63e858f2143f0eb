package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf8"

	"jackfield"
)

// What the plugin answers when it is called, by backends and other plugins.
func onCall(caller jackfield.Caller, method string, payload []byte) ([]byte, error) {
	switch method {
	case "echo":
		return payload, nil
	case "caller":
		if caller.Plugin != "" {
			return []byte("plugin " + caller.Plugin), nil
		}
		return []byte("api " + caller.Token), nil
	}
	known := []string{"do", "bytes", "fail"}
	if !slices.Contains(known, method) {
		return nil, jackfield.Errorf(jackfield.UnknownMethod, "there is no method %q", method)
	}
	if !utf8.Valid(payload) {
		return nil, invalid("the payload is no text")
	}
	text := string(payload)
	switch method {
	case "do":
		asked, err := namedOrWhole(text)
		// A call is no client's: a request that means one has to name it.
		return json.Marshal(answerTo(asked, err, ""))
	case "bytes":
		size, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil, invalid("`bytes` takes a number: %v", err)
		}
		return bytes.Repeat([]byte("."), int(size)), nil
	}
	codes := []jackfield.Code{
		jackfield.UnknownMethod, jackfield.InvalidArgument, jackfield.NotFound, jackfield.Denied,
		jackfield.LimitExceeded, jackfield.Overloaded, jackfield.Unavailable, jackfield.Failed,
	}
	if slices.Contains(codes, jackfield.Code(text)) {
		return nil, jackfield.Errorf(jackfield.Code(text), "asked to fail")
	}
	return nil, invalid("`fail` takes the code of an error")
}
