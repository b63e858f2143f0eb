package jackfield

// An Acceptance lets a client in. All of it is optional: Acceptance{} just lets it in.
type Acceptance struct {
	// Bound as by BindUID, in place of the handshake's: new(name) gives one, nil gives none.
	UID *string
	// One of the offered subprotocols, or nil.
	Subprotocol *string
	// Joined as by JoinGroup.
	Groups []string
	// Set as by SetInfo.
	Info map[string]string
}
