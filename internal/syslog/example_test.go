package syslog_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net"
	"os"

	"sidecar/internal/record"
	"sidecar/internal/spool"
	"sidecar/internal/syslog"
)

// Messages go from the socket into a spool, and come out of it as entries.
func Example() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := spool.Open(dir, spool.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	l, err := syslog.Listen(syslog.Options{Listen: "tcp://127.0.0.1:0", Sink: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()

	c, err := net.Dial("tcp", l.Addrs()[0].String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(c, "55 <12>1 - web-03 checkout 4312 - - _jsonrc:{\"message\":1}\n")
	c.Close()

	var d syslog.Decoder
	source := s.NewSource("syslog", func(_ *spool.Message, e *record.Entry) { d.Decode(e) })
	defer source.Close()
	<-source.Ready()
	var e record.Entry
	if _, err := source.Next(&e); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s[%s] %d: %s\n", e.Host, e.Identifier, e.PID, e.Priority, e.Message)
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: web-03 checkout[4312] 4: _jsonrc:{"message":1}
}
