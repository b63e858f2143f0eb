package main

import (
	"fmt"
	"strconv"
	"time"

	"jackfield"
	"jackfield/bucket"
)

// An auction is what the bucket keeps of an item.
type auction struct {
	Price int64   `json:"price"`
	By    *string `json:"by"` // who has bid it
	Open  bool    `json:"open"`
	Ends  int64   `json:"ends"` // in ms since 1970
}

// A refusal says to a bidder why the bid does not count.
type refusal string

func (why refusal) Error() string { return string(why) }

func now() int64 { return time.Now().UnixMilli() }

func auctions() (*bucket.Bucket, error) { return bucket.Open("auctions") }

// bid writes a bid, if it is good.
func bid(item string, amount int64, by string) error {
	bucketOfAuctions, err := auctions()
	if err != nil {
		return err
	}
	_, err = bucket.UpdateJSON(bucketOfAuctions, item, func(last auction, found bool) (auction, error) {
		if !last.Open || last.Ends <= now() {
			return last, refusal("it is not open")
		}
		if amount <= last.Price {
			return last, refusal(fmt.Sprintf("the price is %d", last.Price))
		}
		last.Price, last.By = amount, &by
		last.Ends = max(last.Ends, now()+extendMS())
		return last, nil
	})
	return err
}

// extendMS is how long an auction goes on after a bid at least.
func extendMS() int64 {
	text, _ := jackfield.Config("extend_ms")
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return ms
	}
	return 5000
}

func setEnd(item string, ms int64) error {
	after := time.Duration(max(ms, 10)) * time.Millisecond
	return jackfield.SetTimer("end:"+item, jackfield.Timer{After: after, Scope: jackfield.OnCluster})
}
