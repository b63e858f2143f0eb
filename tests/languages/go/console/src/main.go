// The whole contract over JSON: one request a text message, one answer each. It speaks the protocol of
// the plugin console in Rust, whose README lists all requests.
package main

import (
	"errors"
	"strconv"
	"strings"

	"jackfield"
)

const (
	watchClose   = "watch-close"    // who wants to hear of clients that have left joins this group
	timers       = "timers"         // who wants to hear of timers that fire joins this group
	onTimerDo    = "do:"            // a timer whose name begins so carries out the request that follows
	onCloseDo    = "on-close"       // info key: a request that the client's OnClose carries out
	onCloseLeave = "on-close-leave" // info key: a group that the client's OnClose tries to leave
)

func init() {
	jackfield.Serve(jackfield.Plugin{
		OnConnect: onConnect,
		OnMessage: onMessage,
		OnClose:   onClose,
		OnCall:    onCall,
		OnTimer:   onTimer,
	})
}

func main() {}

func onConnect(client jackfield.ClientID, handshake jackfield.Handshake) (jackfield.Acceptance, error) {
	query := handshake.Query
	for _, text := range query.All("say") {
		tell(client, jackfield.Text(text))
	}
	for _, text := range query.All("do") {
		asked, err := namedOrWhole(text)
		if err != nil {
			return jackfield.Acceptance{}, jackfield.Refuse(400, err.Error())
		}
		outcome, err := asked.run(client)
		if err != nil {
			return jackfield.Acceptance{}, jackfield.Refuse(400, err.Error())
		}
		if asked.hasID() {
			tell(client, jackfield.JSON(answerOf(asked.ID, outcome, nil)))
		}
	}
	if query.Has("refuse") {
		return jackfield.Acceptance{}, refusal(query)
	}
	connected := connectedEvent{Event: "connected", Client: client, Generation: jackfield.Identify().Generation}
	if query.Get("handshake") == "1" {
		connected.Handshake = shown(handshake)
	}
	tell(client, jackfield.JSON(connected))
	return acceptance(query), nil
}

func onMessage(client jackfield.ClientID, message jackfield.Message) {
	asked, err := fromMessage(message)
	tell(client, jackfield.JSON(answerTo(asked, err, client)))
}

func onClose(client jackfield.ClientID, departure jackfield.Departure) {
	groupHears(watchClose, closedEvent{
		Event:  "closed",
		Client: client,
		Code:   departure.Code,
		Reason: departure.Reason,
		By:     string(departure.By),
		UID:    orNull(departure.UID),
		Groups: departure.Groups,
		Info:   departure.Info,
	})
	if group, ok := departure.Info[onCloseLeave]; ok {
		err := jackfield.LeaveGroup(client, group)
		groupHears(watchClose, leaveEvent{"on-close-leave", verdictOf(nil, err)})
	}
	if text, ok := departure.Info[onCloseDo]; ok {
		asked, err := namedOrWhole(text)
		groupHears(watchClose, closeEvent{"on-close", answerTo(asked, err, client)})
	}
}

func onTimer(name string) {
	identity := jackfield.Identify()
	groupHears(timers, timerEvent{"timer", name, identity.Generation, identity.Node})
	if text, ok := strings.CutPrefix(name, onTimerDo); ok {
		asked, err := namedOrWhole(text)
		// A timer is no client's: a request that means one has to name it.
		groupHears(timers, timerAnswer{"on-timer", name, answerTo(asked, err, "")})
	}
}

// acceptance is what the query asks for, as it is: whether it can be had is for the node to say.
func acceptance(query jackfield.Query) jackfield.Acceptance {
	accepted := jackfield.Acceptance{Groups: query.All("group"), Info: map[string]string{}}
	if query.Has("uid") {
		accepted.UID = new(query.Get("uid"))
	}
	if query.Has("subprotocol") {
		accepted.Subprotocol = new(query.Get("subprotocol"))
	}
	for _, pair := range query {
		if key, ok := strings.CutPrefix(pair.Name, "info."); ok {
			accepted.Info[key] = pair.Value
		}
	}
	return accepted
}

func refusal(query jackfield.Query) error {
	status, err := strconv.ParseUint(query.Get("refuse"), 10, 16)
	if err != nil {
		return jackfield.Refuse(400, "refuse="+query.Get("refuse")+": give an HTTP status, as refuse=403")
	}
	times, err := strconv.ParseUint(query.Get("times"), 10, 32)
	if err != nil {
		times = 1
	}
	return jackfield.Refuse(uint16(status), strings.Repeat(query.Get("reason"), int(times)))
}

// tell sends an answer. A client that has left can't be told anything, and that is no news; what else
// keeps an answer back stands in the log, since the client never sees it.
func tell(client jackfield.ClientID, message jackfield.Message) {
	err := jackfield.SendToClient(client, message)
	if err == nil || errors.Is(err, jackfield.NotFound) || errors.Is(err, jackfield.Closed) {
		return
	}
	jackfield.Logf(jackfield.LevelWarn, "no answer went to %s: %v", client, err)
}

func groupHears(group string, event any) {
	if _, err := jackfield.SendToGroup(group, jackfield.JSON(event)); err != nil {
		jackfield.Logf(jackfield.LevelWarn, "the group %s was not told: %v", group, err)
	}
}
