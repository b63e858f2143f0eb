package http

import (
	"encoding/json"
	"time"

	"jackfield"
)

// A Request asks a server for something.
type Request struct {
	Method  string            // "" is GET
	URL     string            // https://HOST/PATH?QUERY
	Headers jackfield.Headers // the node itself writes host, connection and the like
	Body    []byte
	Timeout time.Duration // 0: the node's http_timeout, which is 4 s and holds in any case
}

// Get asks for what is at the URL.
func Get(url string) (Response, error) { return Do(Request{URL: url}) }

// Post brings a body of this type, such as text/plain, to the URL.
func Post(url, contentType string, body []byte) (Response, error) {
	headers := jackfield.Headers{{Name: "content-type", Value: contentType}}
	return Do(Request{Method: "POST", URL: url, Headers: headers, Body: body})
}

// PostJSON brings a value in JSON to the URL.
func PostJSON(url string, value any) (Response, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return Response{}, jackfield.Errorf(jackfield.InvalidArgument, "http.PostJSON: value: %v", err)
	}
	return Post(url, "application/json", body)
}
