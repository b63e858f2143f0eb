package http

import (
	"strings"

	"jackfield"
	wasi "jackfield/internal/bindings/imports/wasi_http_types"
	"jackfield/internal/bindings/imports/wasi_io_streams"
)

// The names of wasi:http's errors, in its order.
var names = [...]string{
	"DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable",
	"destination-IP-prohibited", "destination-IP-unroutable", "connection-refused",
	"connection-terminated", "connection-timeout", "connection-read-timeout",
	"connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
	"TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied",
	"HTTP-request-length-required", "HTTP-request-body-size", "HTTP-request-method-invalid",
	"HTTP-request-URI-invalid", "HTTP-request-URI-too-long", "HTTP-request-header-section-size",
	"HTTP-request-header-size", "HTTP-request-trailer-section-size", "HTTP-request-trailer-size",
	"HTTP-response-incomplete", "HTTP-response-header-section-size", "HTTP-response-header-size",
	"HTTP-response-body-size", "HTTP-response-trailer-section-size", "HTTP-response-trailer-size",
	"HTTP-response-transfer-coding", "HTTP-response-content-coding", "HTTP-response-timeout",
	"HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error",
	"internal-error",
}

// failure is the error that the node gives; its text is copied.
func failure(code wasi.ErrorCode) error {
	name := names[code.Tag()]
	message := name
	if code.Tag() == wasi.ErrorCode_InternalError {
		if text := code.InternalError().SomeOr(""); text != "" {
			message = strings.Clone(text)
		}
	}
	kind := jackfield.Failed
	switch {
	case strings.HasSuffix(name, "-timeout"):
		kind = jackfield.TimedOut
	case strings.HasSuffix(name, "-size"):
		kind = jackfield.LimitExceeded
	}
	return &jackfield.Error{Code: kind, Message: message}
}

// broken is the error of a body that broke off.
func broken(err wasi_io_streams.StreamError) error {
	if err.Tag() == wasi_io_streams.StreamError_Closed {
		return jackfield.Errorf(jackfield.Failed, "the request broke off")
	}
	cause := err.LastOperationFailed()
	defer cause.Drop()
	if code := wasi.HttpErrorCode(cause); code.IsSome() {
		return failure(code.Some())
	}
	// Its first line says what; the rest is where in the node.
	text, _, _ := strings.Cut(cause.ToDebugString(), "\n")
	return &jackfield.Error{Code: jackfield.Failed, Message: strings.Clone(text)}
}
