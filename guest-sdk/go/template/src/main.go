// One room: everybody hears everybody, by name.
package main

import "jackfield"

// An init function says what the plugin is, since main is never called.
func init() {
	jackfield.Serve(jackfield.Plugin{OnConnect: onConnect, OnMessage: onMessage, OnClose: onClose})
}

func main() {}

func onConnect(client jackfield.ClientID, handshake jackfield.Handshake) (jackfield.Acceptance, error) {
	name := handshake.Query.Get("name")
	if name == "" {
		return jackfield.Acceptance{}, jackfield.Refuse(400, "say ?name=")
	}
	return jackfield.Acceptance{UID: new(name), Groups: []string{"lobby"}}, nil
}

func onMessage(client jackfield.ClientID, message jackfield.Message) {
	text, ok := message.Text()
	if !ok {
		return
	}
	name, err := jackfield.GetUIDByClientID(client)
	if err != nil {
		return // it has left
	}
	jackfield.SendToGroup("lobby", jackfield.Text(name+": "+text), client)
}

func onClose(client jackfield.ClientID, departure jackfield.Departure) {
	jackfield.SendToGroup("lobby", jackfield.Text(departure.UID+" has left"))
}
