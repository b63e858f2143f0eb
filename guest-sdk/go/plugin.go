// Package jackfield is what a Jackfield plugin in Go is made of: a Plugin, which says what to do
// when something happens, and the functions of the node that it may call.
package jackfield

// A Plugin is what an author writes: a function for each event that matters. A function that is
// nil does what its comment says.
//
// The events of one client come in order and never overlap. Those of different clients run at
// the same time, in different instances: what an instance keeps in variables is a cache that
// other instances do not see.
type Plugin struct {
	// A client asks to come in. Accept it, or turn it away with Refuse. Any other error is
	// logged, and the client gets 500. nil: everybody comes in.
	OnConnect func(client ClientID, handshake Handshake) (Acceptance, error)

	// A client has sent a message. nil: it is ignored.
	OnMessage func(client ClientID, message Message)

	// A client has left. Functions on the client itself answer Closed. nil: nothing happens.
	OnClose func(client ClientID, departure Departure)

	// This build is about to take over. An error refuses it. nil: it takes over.
	OnStart func() error

	// This build's last event on the node has ended. nil: nothing happens.
	OnStop func()

	// A backend or another plugin calls. An error that is no *Error answers Failed with its
	// text. nil: every call is answered UnknownMethod.
	OnCall func(caller Caller, method string, payload []byte) ([]byte, error)

	// A timer fires. nil: nothing happens.
	OnTimer func(name string)
}

var served *Plugin

// Serve says what the plugin is. Call it in an init function: main is never called.
func Serve(plugin Plugin) { served = &plugin }
