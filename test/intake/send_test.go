package intake

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// flow is what one sender sends: Count messages numbered from 1.
type flow struct {
	Listen string        // where to, as in the configuration: udp://, tcp://, tls://, unix: or unixgram:; for GELF with gelf+ in front
	From   string        // the own IP address, or ""
	Stream string        // the name in each message
	Count  int           // messages
	Rate   int           // messages per second; 0: as fast as they are taken
	Size   int           // octets of filling in each message
	Batch  int           // messages per connection; 0: all on one
	Linger time.Duration // how long to keep the connection when all is sent
	Attack string        // instead of messages, see attacks
	Client string        // the writer of go-gelf instead of our own: none, gzip, zlib or tcp
}

// sent is the account of a flow.
type sent struct {
	Stream  string
	Sent    int    // messages written, the first time
	Again   int    // messages written again, because it was not proven that they were read
	Refused int    // connections that could not be made
	Broken  int    // connections that ended before their time
	Error   string // why the flow ended too early
}

// send runs flows, which it reads as JSON, at the same time, and writes their accounts.
func send(in io.Reader, out io.Writer) error {
	var flows []flow
	if err := json.NewDecoder(in).Decode(&flows); err != nil {
		return fmt.Errorf("read flows: %w", err)
	}
	accounts := make([]sent, len(flows))
	var all sync.WaitGroup
	for i := range flows {
		f, a := &flows[i], &accounts[i]
		a.Stream = f.Stream
		all.Go(func() {
			if err := f.run(a); err != nil {
				a.Error = err.Error()
			}
		})
	}
	all.Wait()
	return json.NewEncoder(out).Encode(accounts)
}

// message returns message n of the flow: RFC 5424 with a Winston document, or GELF.
func (f *flow) message(n int) string {
	if f.gelf() {
		return fmt.Sprintf(`{"version":"1.1","host":"web-04","short_message":%q,"_stream":%q,"_n":%d,"_filling":"%s"}`, f.Stream, f.Stream, n, filling(n, f.Size))
	}
	return fmt.Sprintf(`<14>1 - - %s - - - _jsonrc:{"stream":%q,"n":%d,"filling":"%s"}`, f.Stream, f.Stream, n, filling(n, f.Size))
}

// filling returns what message n carries beside its number.
func filling(n, size int) string { return strings.Repeat(string(rune('a'+n%26)), size) }

// dial connects to where the flow goes.
func (f *flow) dial(a *sent) (net.Conn, error) {
	network, address, _ := strings.Cut(strings.TrimPrefix(f.Listen, "gelf+"), ":")
	address = strings.TrimPrefix(address, "//")
	d := net.Dialer{Timeout: 20 * time.Second}
	withTLS := network == "tls"
	if withTLS || network == "http" {
		network = "tcp"
	}
	switch network {
	case "udp":
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(f.From)}
	case "tcp":
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(f.From)}
	}
	c, err := d.Dial(network, address)
	if errors.Is(err, unix.ECONNRESET) {
		return nil, err // it was made, and ended with the process that took it
	}
	if err != nil {
		a.Refused++
	} else if withTLS {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // whose certificate it is is not the matter here
	}
	return c, err
}

// stream reports whether the flow's messages are on streams.
func (f *flow) stream() bool {
	return strings.HasPrefix(f.Listen, "t") || strings.HasPrefix(f.Listen, "unix:") || strings.HasPrefix(f.Listen, "gelf+tcp")
}

func (f *flow) gelf() bool { return strings.HasPrefix(f.Listen, "gelf+") }

func (f *flow) run(a *sent) error {
	switch {
	case f.Attack != "":
		return f.attack(a)
	case f.Client != "":
		return f.goGELF(a)
	case strings.HasPrefix(f.Listen, "gelf+http:"):
		return f.posts(a)
	case f.stream():
		return f.streams(a)
	}
	return f.datagrams(a)
}

// datagrams sends each message once. An error of the socket counts as a refusal.
func (f *flow) datagrams(a *sent) error {
	c, err := f.dial(a)
	if err != nil {
		return err
	}
	defer c.Close()
	p := newPace(f.Rate)
	for n := 1; n <= f.Count; n++ {
		p.wait(n, nil)
		datagrams := [][]byte{[]byte(f.message(n))}
		if f.gelf() && len(datagrams[0]) > chunkBytes {
			datagrams = chunks(uint64(n), datagrams[0])
		}
		for _, d := range datagrams {
			if _, err := c.Write(d); err != nil {
				a.Refused++
				return err
			}
		}
		a.Sent++
	}
	return nil
}

// streams sends batch after batch, each on a connection of its own. A batch that was
// not read to its end, as far as the sender can know, is sent again.
func (f *flow) streams(a *sent) error {
	if f.Batch == 0 {
		f.Batch = f.Count
	}
	p := newPace(f.Rate)
	for first := 1; first <= f.Count; {
		last := min(first+f.Batch-1, f.Count)
		c, err := f.dial(a)
		if errors.Is(err, unix.ECONNRESET) {
			a.Broken++
			continue
		}
		if err != nil {
			return err
		}
		written, err := f.batch(c, p, first, last)
		a.Again += max(0, min(a.Sent, written)-first+1)
		a.Sent = max(a.Sent, written)
		if err == nil {
			first = last + 1
			continue
		}
		if a.Broken++; f.Batch == f.Count {
			return err
		}
	}
	return nil
}

// batch writes messages, closes the sending half of c and returns when the other side
// has read all of it and ended. written is the number of the last message that was
// written, whole or in part.
func (f *flow) batch(c net.Conn, p *pace, first, last int) (written int, err error) {
	defer c.Close()
	w := bufio.NewWriterSize(c, 64<<10)
	written = first - 1
	for n := first; n <= last; n++ {
		if err := p.wait(n, w); err != nil {
			return written, err
		}
		m := f.message(n)
		written = n
		switch {
		case f.gelf():
			_, err = w.WriteString(m + "\x00")
		case strings.HasPrefix(f.Listen, "unix:"):
			_, err = w.WriteString(m + "\n") // RFC 6587 section 3.4.2
		default:
			_, err = w.WriteString(strconv.Itoa(len(m)) + " " + m) // RFC 6587 section 3.4.1
		}
		if err != nil {
			return written, err
		}
	}
	if err := w.Flush(); err != nil {
		return written, err
	}
	pause(f.Linger)
	return written, prove(c)
}

// prove closes the sending half of c and returns nil if the other side has taken
// everything before it closed. A TCP stack that holds unread octets at the close sends
// a reset; octets that come after it are not acknowledged (RFC 9293 section 3.6.1).
func prove(c net.Conn) error {
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n > 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the end: %d octets, %w", n, err)
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	left := 0
	control := raw.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	if err = errors.Join(control, err); err == nil && left > 0 {
		err = fmt.Errorf("%d octets were not taken", left)
	}
	return err
}

// pace keeps a rate.
type pace struct {
	start time.Time
	each  time.Duration // 0: no rate
}

func newPace(rate int) *pace {
	p := &pace{start: time.Now()}
	if rate > 0 {
		p.each = time.Second / time.Duration(rate)
	}
	return p
}

// wait waits for the time of message n, after it has flushed w.
func (p *pace) wait(n int, w *bufio.Writer) error {
	ahead := time.Until(p.start.Add(time.Duration(n) * p.each))
	if p.each == 0 || ahead < time.Millisecond {
		return nil
	}
	if w != nil {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	pause(ahead)
	return nil
}

// pause keeps a sender silent: its rate is what a test is about.
func pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}
