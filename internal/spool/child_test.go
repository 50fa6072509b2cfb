package spool

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"sidecar/internal/record"
)

// childEnv makes the test binary append to a spool until it is killed: its value is
// the directory, the number of the first message and "sync" or "nosync".
const childEnv = "SPOOL_TEST_APPEND"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		fmt.Fprintln(os.Stderr, appendUntilKilled(strings.Fields(args)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// childOptions make segments small enough that many are begun and unlinked.
func childOptions() Options { return Options{MaxBytes: 8 << 20, segmentBytes: 256 << 10} }

// appendUntilKilled prints "acked N" when everything up to message N is stored, and
// "confirm N" before it confirms that.
func appendUntilKilled(args []string) error {
	var d disk = osDisk{}
	if args[2] == "nosync" {
		d = buggyDisk{disk: syncOf("", never)(osDisk{}), syncDirIf: func(string) bool { return false }}
	}
	number, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	s, err := open(d, args[0], childOptions())
	if err != nil {
		return err
	}
	src := s.NewSource("spool", nil)
	var e record.Entry
	delivered := uint64(0)
	for {
		msgs := make([]Message, 1+rand.IntN(60))
		for i := range msgs {
			msgs[i].Text = numbered(number)
			number++
		}
		if err := s.Append(context.Background(), msgs); err != nil {
			return err
		}
		fmt.Printf("acked %d\n", number-1)
		for n := rand.IntN(100); n > 0; n-- {
			if ok, err := src.Next(&e); err != nil {
				return err
			} else if !ok {
				break
			}
			delivered = binary.BigEndian.Uint64(e.Message)
		}
		if rand.IntN(4) > 0 {
			continue
		}
		p, err := src.Position(nil)
		if err != nil {
			return err
		}
		fmt.Printf("confirm %d\n", delivered)
		if err := src.Commit(p); err != nil {
			return err
		}
	}
}

// numbered returns the text of a message: its number and a filling that follows from it.
func numbered(n uint64) []byte {
	b := make([]byte, 300)
	for i := range b {
		b[i] = byte(n)
	}
	binary.BigEndian.PutUint64(b, n)
	return b
}

// child is a running appendUntilKilled.
type child struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when its output has ended

	mu               sync.Mutex
	acked, confirmed uint64
	batches          int
	grown            sync.Cond
	ended            bool
}

func startChild(t *testing.T, dir string, first uint64, mode string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	c.grown.L = &c.mu
	c.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %s", childEnv, dir, first, mode), "GORACE=atexit_sleep_ms=0")
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.listen(out)
	return c
}

func (c *child) listen(out io.Reader) {
	defer close(c.done)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, number, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			break // cut off by the kill
		}
		c.mu.Lock()
		if what == "acked" {
			c.acked, c.batches = n, c.batches+1
		} else {
			c.confirmed = n
		}
		c.grown.Broadcast()
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.ended = true
	c.grown.Broadcast()
	c.mu.Unlock()
}

// await waits for n acknowledged batches and returns the last acknowledged message.
func (c *child) await(t *testing.T, n int) (acked uint64) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.batches < n && !c.ended {
		c.grown.Wait()
	}
	if c.batches < n {
		t.Errorf("the child ended after %d batches", c.batches)
	}
	return c.acked
}

// kill ends the child and returns the last message that it may have confirmed.
func (c *child) kill() (confirmed uint64) {
	c.cmd.Process.Kill()
	<-c.done
	c.cmd.Wait()
	return c.confirmed
}

// verify reads the spool as the next process does. Every message from confirmed+1 to
// acked must be there, in order, unchanged, and nothing be counted as lost. It returns
// the highest number that was found, and confirms a part.
func verify(dir string, confirmed, acked uint64) (highest uint64, err error) {
	s, err := Open(dir, childOptions())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	src := s.NewSource("spool", nil)
	defer src.Close()
	var e record.Entry
	want := confirmed + 1
	for {
		ok, err := src.Next(&e)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		if len(e.Message) < 8 {
			return 0, fmt.Errorf("delivered %q, which was never appended", e.Message)
		}
		number := binary.BigEndian.Uint64(e.Message)
		switch {
		case string(e.Message) != string(numbered(number)):
			return 0, fmt.Errorf("message %d is not as it was", number)
		case number < highest || number > want:
			return 0, fmt.Errorf("message %d comes behind %d, want %d", number, highest, want)
		case number == want:
			want++
		}
		highest = number
	}
	if want <= acked {
		return 0, fmt.Errorf("messages %d to %d are lost", want, acked)
	}
	if st := s.Stats(); st.Lost > 0 {
		return 0, fmt.Errorf("%d messages are counted as lost", st.Lost)
	}
	return max(highest, acked, confirmed), nil
}

// A process that is killed at any moment loses nothing that it had acknowledged.
func TestRow01Kill(t *testing.T) {
	dir := t.TempDir()
	next, confirmed, messages := uint64(1), uint64(0), uint64(0)
	for round := range 20 {
		c := startChild(t, dir, next, "sync")
		c.await(t, 1+rand.IntN(40))
		confirmed = max(confirmed, c.kill())
		highest, err := verify(dir, confirmed, c.acked)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		messages += c.acked - next + 1
		next = highest + 1
	}
	t.Logf("%d messages", messages)
}
