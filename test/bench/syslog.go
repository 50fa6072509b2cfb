package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"sidecar/internal/record"
	"sidecar/internal/spool"
	"sidecar/internal/syslog"
)

// memoryDir is a file system in memory: a spool there costs what it costs without
// the disk.
const memoryDir = "/dev/shm"

// benchSyslog measures the way of syslog messages through logship, and their way into
// the spool and out of it alone, with the spool on the disk of dir and in memory.
func benchSyslog(dir string, lines [][]byte, messages, rounds int) error {
	memory, err := os.MkdirTemp(memoryDir, "logship-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(memory)
	header := appendSyslog(nil, nil)
	fixed := [][]byte{bytes.Repeat([]byte("x"), 500-len(header))}
	var shippers, intakes []contender
	for _, place := range []struct{ name, dir string }{{"in memory", memory}, {"on disk", dir}} {
		shippers = append(shippers, contender{"logship: syslog TCP -> spool " + place.name + " -> GELF TCP, confirmed",
			func() (sample, error) { return shipSyslog(place.dir, lines, messages) }})
		intakes = append(intakes, contender{"syslog TCP -> spool " + place.name + " -> header read, confirmed",
			func() (sample, error) { return storeSyslog(place.dir, fixed, messages) }})
	}
	fmt.Printf("%d messages of syslog (RFC 3164, TCP), the bench corpus\n\n", messages)
	if err := compare(shippers, messages, rounds); err != nil {
		return err
	}
	fmt.Printf("%d messages of 500 bytes\n\n", messages)
	return compare(intakes, messages, rounds)
}

// appendSyslog appends a message with a text, and its line end (RFC 3164 section 4.1,
// RFC 6587 section 3.4.2).
func appendSyslog(dst, text []byte) []byte {
	dst = time.Now().AppendFormat(append(dst, "<14>"...), time.Stamp)
	dst = append(dst, " web-01 app[4711]: "...)
	return append(append(dst, text...), '\n')
}

// sendSyslog sends messages to addr over one connection, as soon as somebody listens.
func sendSyslog(addr string, lines [][]byte, messages int) error {
	conn, err := net.Dial("tcp", addr)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
		conn, err = net.Dial("tcp", addr)
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	w := bufio.NewWriterSize(conn, 256<<10)
	var b []byte
	for i := range messages {
		b = appendSyslog(b[:0], lines[i%len(lines)])
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Flush()
}

// freePort returns an address that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

const syslogConfig = `input.journald.enabled = false
input.syslog = [{listen = "tcp://%s"}]
output.url = "gelf+tcp://%s"
state.dir = %q
parse.multiline = false # one frame for each message, to know when all have come
metrics.listen = ""
log.level = "warn"
`

// shipSyslog ships messages through logship, with its spool below dir, to a receiver
// in this process that counts frames.
func shipSyslog(dir string, lines [][]byte, messages int) (sample, error) {
	state, err := os.MkdirTemp(dir, "state-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(state)
	addr, err := freePort()
	if err != nil {
		return sample{}, err
	}
	config := filepath.Join(state, "logship.toml")
	return runShipper(messages, func(output string) (*exec.Cmd, error) {
		err := os.WriteFile(config, fmt.Appendf(nil, syslogConfig, addr, output, state), 0o600)
		return exec.Command("bin/logship", "run", "--config", config), err
	}, func() error { return sendSyslog(addr, lines, messages) })
}

// storeSyslog sends messages to a process that is this program and calls takeSyslog.
func storeSyslog(dir string, lines [][]byte, messages int) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	spoolDir, err := os.MkdirTemp(dir, "spool-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(spoolDir)
	addr, err := freePort()
	if err != nil {
		return sample{}, err
	}
	cmd := exec.Command(self, "-n", fmt.Sprint(messages), "-store", addr, spoolDir)
	sent := make(chan error, 1)
	go func() { sent <- sendSyslog(addr, lines, messages) }()
	s, err := runCommand(cmd)
	if err != nil {
		return s, err
	}
	return s, <-sent
}

// storeCommit is how many messages takeSyslog confirms at a time: about 4 MiB, as
// logship does.
const storeCommit = 8000

// takeSyslog takes messages in at addr, stores them in a spool in dir, reads them
// back, with their headers, and confirms them.
func takeSyslog(addr, dir string, messages int) error {
	s, err := spool.Open(dir, spool.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	l, err := syslog.Listen(syslog.Options{Listen: "tcp://" + addr, Sink: s, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	err = readBack(s, messages)
	cancel()
	if failure := <-ended; err == nil {
		err = failure
	}
	return err
}

func readBack(s *spool.Spool, messages int) error {
	var d syslog.Decoder
	source := s.NewSource("syslog", func(_ *spool.Message, e *record.Entry) { d.Decode(e) })
	defer source.Close()
	var e record.Entry
	for n := 0; n < messages; {
		ok, err := source.Next(&e)
		if err != nil {
			return err
		}
		if !ok {
			<-source.Ready()
			continue
		}
		if n++; n%storeCommit == 0 || n == messages {
			position, err := source.Position(nil)
			if err == nil {
				err = source.Commit(position)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
