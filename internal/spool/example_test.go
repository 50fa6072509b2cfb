package spool_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"sidecar/internal/record"
	"sidecar/internal/spool"
)

// An intake appends what it receives; the line takes it from the source and commits
// what the receiver has confirmed.
func Example() {
	dir, err := os.MkdirTemp("", "spool-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := spool.Open(dir, spool.Options{
		MaxBytes:     256 << 20,
		MinFreeBytes: 1 << 30 / 8,
		OnFull:       spool.Block,
		OnTrouble:    func(err error) { log.Print("spool: ", err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	src := s.NewSource("syslog", func(m *spool.Message, e *record.Entry) {
		e.Host = m.Peer // a parser of the message would know better
	})
	defer src.Close()

	// The intake, in its own goroutine. When Append returns, the message is durable.
	err = s.Append(context.Background(), []spool.Message{{
		Text: []byte("<13>hello"), TimeUsec: time.Now().UnixMicro(), Priority: -1,
		Source: []byte("syslog"), Transport: []byte("udp"), Peer: []byte("192.0.2.1"),
	}})
	if err != nil {
		log.Fatal(err)
	}

	// The line.
	var e record.Entry
	for {
		ok, err := src.Next(&e)
		if err != nil {
			log.Fatal(err)
		}
		if !ok {
			break // until src.Ready() has a value
		}
		fmt.Printf("%s from %s\n", e.Message, e.Host)
	}
	position, err := src.Position(nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := src.Commit(position); err != nil {
		log.Fatal(err)
	}
	fmt.Println("waiting:", s.Stats().Waiting)
	// Output:
	// <13>hello from 192.0.2.1
	// waiting: 0
}
