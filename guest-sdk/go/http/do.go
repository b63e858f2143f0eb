// Package http asks other servers, those that the manifest allows:
//
//	[http]
//	allow = ["https://api.example.com"]
//
// A plugin that uses this package imports wasi:http, and is not loaded without [http]. Go's own
// net/http does not work in a plugin.
package http

import (
	"strings"
	"time"
	"unicode/utf8"

	"jackfield"
	"jackfield/internal/author"
	"jackfield/internal/bindings/imports/wasi_http_outgoing_handler"
	wasi "jackfield/internal/bindings/imports/wasi_http_types"
	"jackfield/internal/bindings/imports/wasi_io_streams"
	"jackfield/internal/wit/runtime"
	"jackfield/internal/wit/types"
)

const (
	writeBytes = 4096     // what one call writes at most, as the contract of streams has it
	readBytes  = 64 << 10 // what one call reads
)

// Do sends a request and waits for the whole answer. An answer of any status is no error.
//
// Every error is a *jackfield.Error. InvalidArgument: the request is wrong. TimedOut: nobody answered
// in time. LimitExceeded: a body is too large. Failed: anything else, as that the manifest does not
// allow the request, which the message says.
func Do(request Request) (Response, error) {
	scheme, authority, path, err := request.split()
	if err != nil {
		return Response{}, err
	}
	outgoing, err := request.outgoing(scheme, authority, path)
	if err != nil {
		return Response{}, err
	}
	body := outgoing.Body().Ok()
	future, err := handle(outgoing, request.options())
	if err != nil {
		body.Drop()
		return Response{}, err
	}
	defer future.Drop()
	// Who wants no more of the body, a server or the node, says why by the answer.
	unwritten := write(body, request.Body)
	answer, err := wait(future, unwritten)
	if err != nil {
		return Response{}, err
	}
	defer answer.Drop()
	return read(answer)
}

func (request Request) outgoing(
	scheme wasi.Scheme, authority, path string,
) (*wasi.OutgoingRequest, error) {
	headers := make([]wit_types.Tuple2[string, []byte], len(request.Headers))
	for i, header := range request.Headers {
		if !utf8.ValidString(header.Name) {
			return nil, misuse("Headers: a name is not UTF-8 text")
		}
		headers[i] = wit_types.Tuple2[string, []byte]{F0: header.Name, F1: []byte(header.Value)}
	}
	fields := wasi.FieldsFromList(headers)
	if fields.IsErr() {
		return nil, misuse("Headers: one is malformed, or is the node's to write")
	}
	outgoing := wasi.MakeOutgoingRequest(fields.Ok())
	wrong := ""
	switch {
	case outgoing.SetMethod(method(request.Method)).IsErr():
		wrong = "Method: it is malformed"
	case outgoing.SetScheme(wit_types.Some(scheme)).IsErr(),
		outgoing.SetAuthority(wit_types.Some(authority)).IsErr(),
		outgoing.SetPathWithQuery(wit_types.Some(path)).IsErr():
		wrong = "URL: it is malformed"
	}
	if wrong != "" {
		outgoing.Drop()
		return nil, misuse(wrong)
	}
	return outgoing, nil
}

func (request Request) options() wit_types.Option[*wasi.RequestOptions] {
	if request.Timeout <= 0 {
		return wit_types.None[*wasi.RequestOptions]()
	}
	options := wasi.MakeRequestOptions()
	timeout := wit_types.Some(uint64(request.Timeout / time.Nanosecond))
	options.SetConnectTimeout(timeout)
	options.SetFirstByteTimeout(timeout)
	options.SetBetweenBytesTimeout(timeout)
	return wit_types.Some(options)
}

func handle(
	outgoing *wasi.OutgoingRequest, options wit_types.Option[*wasi.RequestOptions],
) (*wasi.FutureIncomingResponse, error) {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := wasi_http_outgoing_handler.Handle(outgoing, options)
	if result.IsErr() {
		return nil, failure(result.Err())
	}
	return result.Ok(), nil
}

func write(body *wasi.OutgoingBody, bytes []byte) error {
	runtime.BeginCall()
	defer runtime.EndCall()
	if len(bytes) > 0 {
		stream := body.Write().Ok()
		for len(bytes) > 0 {
			part := bytes[:min(len(bytes), writeBytes)]
			bytes = bytes[len(part):]
			if result := stream.BlockingWriteAndFlush(part); result.IsErr() {
				err := broken(result.Err())
				stream.Drop()
				body.Drop()
				return err
			}
		}
		stream.Drop()
	}
	if result := wasi.OutgoingBodyFinish(body, wit_types.None[*wasi.Fields]()); result.IsErr() {
		return failure(result.Err())
	}
	return nil
}

// wait returns the answer. unwritten is why the body was not written, and the error if there is no
// answer.
func wait(
	future *wasi.FutureIncomingResponse, unwritten error,
) (*wasi.IncomingResponse, error) {
	ready := future.Subscribe()
	ready.Block()
	ready.Drop()
	runtime.BeginCall()
	defer runtime.EndCall()
	answer := future.Get()
	if unwritten != nil && (answer.IsNone() || answer.Some().IsErr()) {
		return nil, unwritten
	}
	result := answer.Some().Ok()
	if result.IsErr() {
		return nil, failure(result.Err())
	}
	return result.Ok(), nil
}

func read(answer *wasi.IncomingResponse) (Response, error) {
	response := Response{Status: answer.Status(), Headers: entries(answer.Headers())}
	body := answer.Consume().Ok()
	defer body.Drop()
	stream := body.Stream().Ok()
	defer stream.Drop()
	for {
		more, err := readPart(stream, &response.Body)
		if err != nil {
			return Response{}, err
		}
		if !more {
			return response, nil
		}
	}
}

func entries(fields *wasi.Fields) jackfield.Headers {
	defer fields.Drop()
	runtime.BeginCall()
	defer runtime.EndCall()
	var headers jackfield.Headers
	for _, entry := range fields.Entries() {
		headers = append(headers, jackfield.Pair{Name: strings.Clone(entry.F0), Value: string(entry.F1)})
	}
	return headers
}

func readPart(stream *wasi_io_streams.InputStream, body *[]byte) (more bool, err error) {
	runtime.BeginCall()
	defer runtime.EndCall()
	result := stream.BlockingRead(readBytes)
	if result.IsOk() {
		*body = append(*body, result.Ok()...)
		return true, nil
	}
	if err := result.Err(); err.Tag() != wasi_io_streams.StreamError_Closed {
		return false, broken(err)
	}
	return false, nil
}

// split takes the URL apart: its scheme, its authority, and its path with the query.
func (request Request) split() (scheme wasi.Scheme, authority, path string, err error) {
	name, rest, _ := strings.Cut(request.URL, "://")
	scheme = wasi.MakeSchemeHttps()
	if strings.EqualFold(name, "http") {
		scheme = wasi.MakeSchemeHttp()
	}
	isKnown := strings.EqualFold(name, "http") || strings.EqualFold(name, "https")
	rest, _, _ = strings.Cut(rest, "#")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest, path = rest[:i], rest[i:]
	}
	if !isKnown || rest == "" || !utf8.ValidString(request.URL) {
		return scheme, "", "", misuse("URL: write https://HOST/PATH")
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return scheme, rest, path, nil
}

func method(name string) wasi.Method {
	switch strings.ToUpper(name) {
	case "", "GET":
		return wasi.MakeMethodGet()
	case "HEAD":
		return wasi.MakeMethodHead()
	case "POST":
		return wasi.MakeMethodPost()
	case "PUT":
		return wasi.MakeMethodPut()
	case "DELETE":
		return wasi.MakeMethodDelete()
	case "OPTIONS":
		return wasi.MakeMethodOptions()
	case "PATCH":
		return wasi.MakeMethodPatch()
	}
	return wasi.MakeMethodOther(strings.ToValidUTF8(name, "\uFFFD"))
}

func misuse(what string) error {
	return jackfield.Errorf(jackfield.InvalidArgument, "http.Do: %s, at %s",
		what, author.Position(author.Frames()))
}
