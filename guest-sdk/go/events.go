package jackfield

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	calls "jackfield/internal/bindings/handlers/export_jackfield_plugin_call_handler"
	handler "jackfield/internal/bindings/handlers/export_jackfield_plugin_handler"
	lifecycle "jackfield/internal/bindings/handlers/export_jackfield_plugin_lifecycle"
	timers "jackfield/internal/bindings/handlers/export_jackfield_plugin_timer_handler"
	"jackfield/internal/bindings/imports/jackfield_plugin_call_handler"
	wit "jackfield/internal/bindings/imports/jackfield_plugin_types"
	_ "jackfield/internal/bindings/wit_exports"
	"jackfield/internal/wit/runtime"
	"jackfield/internal/wit/types"
)

// The component's exports: what the node calls. Each copies its arguments, says that it has, and
// calls the author's function.
func init() {
	handler.OnConnect = onConnect
	handler.OnMessage = onMessage
	handler.OnClose = onClose
	lifecycle.OnStart = onStart
	lifecycle.OnStop = onStop
	calls.OnCall = onCall
	timers.OnTimer = onTimer
}

// begin is called when the arguments of an event are copied, and end when it is over.
func begin() { runtime.BeginEvent() }

func end() {
	// Called directly by defer, so that recover sees the panic.
	if cause := recover(); cause != nil {
		reportPanic(cause)
	}
	runtime.EndEvent()
}

func onConnect(client string, asked wit.Handshake) wit_types.Result[wit.Acceptance, wit.Refusal] {
	id := ClientID(strings.Clone(client))
	handshake := Handshake{
		Path:          strings.Clone(asked.Path),
		Query:         copiedPairs(asked.Query),
		Headers:       copiedPairs(asked.Headers),
		RemoteAddress: strings.Clone(asked.RemoteAddress),
		Subprotocols:  copied[string](asked.Subprotocols),
		UID:           copiedOption(asked.Uid),
	}
	begin()
	defer end()
	var acceptance Acceptance
	var err error
	if served.OnConnect != nil {
		acceptance, err = served.OnConnect(id, handshake)
	}
	if err == nil {
		err = acceptance.check()
	}
	if err == nil {
		return wit_types.Ok[wit.Acceptance, wit.Refusal](wit.Acceptance{
			Subprotocol: optional(acceptance.Subprotocol),
			Uid:         optional(acceptance.UID),
			Groups:      acceptance.Groups,
			Info:        pairsOf(acceptance.Info),
		})
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		Log(LevelError, "OnConnect: "+err.Error())
		refusal = &Refusal{500, "the server failed"}
	}
	reason := strings.ToValidUTF8(refusal.Reason, "\uFFFD")
	return wit_types.Err[wit.Acceptance, wit.Refusal](wit.Refusal{Status: refusal.Status, Reason: reason})
}

func onMessage(client string, sent wit.Message) {
	id := ClientID(strings.Clone(client))
	message := Message{binary: sent.Tag() == wit.Message_Binary}
	if message.binary {
		message.bytes = bytes.Clone(sent.Binary())
	} else {
		message.text = strings.Clone(sent.Text())
	}
	begin()
	defer end()
	if served.OnMessage != nil {
		served.OnMessage(id, message)
	}
}

func onClose(client string, left wit.Departure) {
	id := ClientID(strings.Clone(client))
	departure := Departure{
		Code:   left.Code,
		Reason: strings.Clone(left.Reason),
		By:     closers[left.By],
		UID:    copiedOption(left.Uid),
		Groups: copied[string](left.Groups),
		Info:   copiedMap(left.Info),
	}
	begin()
	defer end()
	if served.OnClose != nil {
		served.OnClose(id, departure)
	}
}

var closers = [...]Closer{
	wit.Closer_Client:  ByClient,
	wit.Closer_Plugin:  ByPlugin,
	wit.Closer_Node:    ByNode,
	wit.Closer_Network: ByNetwork,
}

func onStart() wit_types.Result[unit, string] {
	begin()
	defer end()
	var err error
	switch {
	case served == nil:
		err = errors.New("the plugin calls jackfield.Serve in no init function (main is never called)")
	case served.OnStart != nil:
		err = served.OnStart()
	}
	if err != nil {
		return wit_types.Err[unit](strings.ToValidUTF8(err.Error(), "\uFFFD"))
	}
	return wit_types.Ok[unit, string](unit{})
}

func onStop() {
	begin()
	defer end()
	if served.OnStop != nil {
		served.OnStop()
	}
}

func onCall(
	called jackfield_plugin_call_handler.Caller, name string, bytesOf []byte,
) wit_types.Result[[]byte, wit.CallError] {
	var caller Caller
	if called.Tag() == jackfield_plugin_call_handler.Caller_Plugin {
		caller.Plugin = strings.Clone(called.Plugin())
	} else {
		caller.Token = strings.Clone(called.Api())
	}
	method, payload := strings.Clone(name), bytes.Clone(bytesOf)
	begin()
	defer end()
	var answer []byte
	var err error = Errorf(UnknownMethod, "there is no method %q", method)
	if served.OnCall != nil {
		answer, err = served.OnCall(caller, method, payload)
	}
	if err == nil {
		return wit_types.Ok[[]byte, wit.CallError](answer)
	}
	refused := wit.CallError{Code: wit.CallErrorCode_Failed, Message: err.Error()}
	if found, ok := errors.AsType[*Error](err); ok {
		refused.Message = found.Message
		if code := slices.Index(callCodes[:], found.Code); code >= 0 {
			refused.Code = uint8(code)
		}
	}
	refused.Message = strings.ToValidUTF8(refused.Message, "\uFFFD")
	return wit_types.Err[[]byte](refused)
}

func onTimer(fired string) {
	name := strings.Clone(fired)
	begin()
	defer end()
	if served.OnTimer != nil {
		served.OnTimer(name)
	}
}

// check says what of the acceptance is not text, which would end the event.
func (acceptance Acceptance) check() error {
	texts := slices.Clone(acceptance.Groups)
	for key, value := range acceptance.Info {
		texts = append(texts, key, value)
	}
	for _, text := range []*string{acceptance.UID, acceptance.Subprotocol} {
		if text != nil {
			texts = append(texts, *text)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return Errorf(InvalidArgument, "the Acceptance has what is not UTF-8 text: %q", text)
		}
	}
	return nil
}

func optional(text *string) wit_types.Option[string] {
	if text == nil {
		return wit_types.None[string]()
	}
	return wit_types.Some(*text)
}
