package jackfield

// A Handshake is a client that asks to come in, as its HTTP request said it.
type Handshake struct {
	Path          string   // percent-encoded, as it came: /chat
	Query         Query    // percent-decoded
	Headers       Headers  // names in lower case
	RemoteAddress string   // 127.0.0.1:51234, [::1]:51234, or unix
	Subprotocols  []string // in the client's order of preference
	UID           string   // what the node itself has found, where the manifest says how; else ""
}
