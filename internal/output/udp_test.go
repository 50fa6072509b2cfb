package output_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	gogelf "github.com/Graylog2/go-gelf/gelf"

	"sidecar/internal/gelf/gelftest"
	"sidecar/internal/output"
)

// startUDP runs an input with UDP that keeps whole messages.
func startUDP(t *testing.T, address string) (*gelftest.Input, *gelftest.Log) {
	t.Helper()
	log := gelftest.NewLog()
	return gelftest.Start(t, gelftest.Options{UDP: address, Sink: log.Add, Logf: t.Logf}), log
}

func connectUDP(t *testing.T, o output.UDPOptions) *output.UDP {
	t.Helper()
	out := output.NewUDP(o)
	t.Cleanup(out.Abort)
	if err := out.Connect(within(t)); err != nil {
		t.Fatal(err)
	}
	return out
}

// noise returns a frame of n bytes with its NUL, which can hardly be compressed.
func noise(n int) []byte {
	b := []byte(`{"version":"1.1","host":"h","short_message":"m","level":6,"full_message":"`)
	for len(b) < n-3 {
		b = append(b, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[rand.IntN(64)])
	}
	return append(b, `"}`+"\x00"...)
}

// TestUDPChunks: documents around the multiples of a chunk arrive as they were sent,
// in datagrams that are full.
func TestUDPChunks(t *testing.T) {
	for _, address := range []string{loopback, "[::1]:0"} {
		for _, tt := range []struct {
			name        string
			compression output.Compression
		}{{"none", output.NoCompression}, {"gzip", output.Gzip}, {"zlib", output.Zlib}} {
			for _, chunk := range []int{output.MinChunkBytes, output.DefaultChunkBytes, 8154} {
				t.Run(fmt.Sprintf("%s %s %d", address, tt.name, chunk), func(t *testing.T) {
					in, log := startUDP(t, address)
					out := connectUDP(t, output.UDPOptions{Address: in.Addr("udp"), Compression: tt.compression, ChunkBytes: chunk})
					per := chunk - 12
					var sent [][]byte
					for _, n := range []int{300, chunk - 1, chunk, chunk + 1, 2*per - 1, 2 * per, 2*per + 1, 7*per - 1, 7 * per, 7*per + 1} {
						sent = append(sent, noise(n+1))
					}
					// One at a time: the kernel drops what the receiver has no room for.
					for i, frame := range sent {
						send(t, out, frame)
						if err := log.WaitFor(within(t), i+1); err != nil {
							t.Fatal(err)
						}
					}
					for i, r := range log.Messages() {
						if want := sent[i][:len(sent[i])-1]; !bytes.Equal(r.Raw, want) {
							t.Errorf("message %d of %d bytes arrives with %d", i, len(want), len(r.Raw))
						}
					}
					if n := len(log.Others()); n > 0 {
						t.Errorf("%d datagrams are no messages", n)
					}
				})
			}
		}
	}
}

// TestUDPMany: small documents go in many datagrams by one system call, in order,
// between large ones.
func TestUDPMany(t *testing.T) {
	in, log := start(t, gelftest.Options{UDP: loopback})
	out := connectUDP(t, output.UDPOptions{Address: in.Addr("udp")})
	for i := range 5 {
		send(t, out, frames(i*200, (i+1)*200))
		wantCut(t, out, uint64(i+1))
		wantArrived(t, log, (i+1)*200)
	}
}

// datagrams receives what out sends.
type datagrams struct {
	*net.UDPConn
	*output.UDP
}

func startDatagrams(t *testing.T, o output.UDPOptions) datagrams {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadBuffer(4 << 20); err != nil {
		t.Fatal(err)
	}
	o.Address = c.LocalAddr().String()
	return datagrams{c, connectUDP(t, o)}
}

// next returns the next datagram.
func (d datagrams) next(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 64<<10)
	if err := d.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := d.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// TestUDPLayout: GELF 1.1 "Chunking".
func TestUDPLayout(t *testing.T) {
	d := startDatagrams(t, output.UDPOptions{ChunkBytes: 1000})
	ids := map[string]bool{}
	for _, n := range []int{1000, 1001, 2 * 988, 2*988 + 1, 20 * 988} {
		frame := noise(n + 1)
		doc := frame[:n]
		send(t, d.UDP, frame)
		if n == 1000 {
			if got := d.next(t); !bytes.Equal(got, doc) {
				t.Errorf("a document of %d bytes is sent as %.40q", n, got)
			}
			continue
		}
		count := (n + 987) / 988
		var got []byte
		for i := range count {
			chunk := d.next(t)
			if len(chunk) > 1000 || i < count-1 && len(chunk) != 1000 || chunk[0] != 0x1e || chunk[1] != 0x0f || int(chunk[10]) != i || int(chunk[11]) != count {
				t.Errorf("chunk %d of %d has %d bytes: % x", i, count, len(chunk), chunk[:12])
			}
			ids[string(chunk[2:10])] = true
			got = append(got, chunk[12:]...)
		}
		if !bytes.Equal(got, doc) {
			t.Errorf("the chunks of %d bytes hold something else", n)
		}
	}
	if len(ids) != 4 {
		t.Errorf("%d message IDs for 4 messages", len(ids))
	}
}

// TestUDPTooLong: what does not fit into 128 chunks is compressed, if told so, or
// cut, so that it does.
func TestUDPTooLong(t *testing.T) {
	const most = 128 * (output.MinChunkBytes - 12)
	for _, tt := range []struct {
		name        string
		compression output.Compression
		frame       []byte
		cut         bool
	}{
		{"limit", output.NoCompression, noise(most + 1), false},
		{"limit + 1", output.NoCompression, noise(most + 2), true},
		{"noise, gzip", output.Gzip, noise(2 * most), true},
		{"text, none", output.NoCompression, text(2 * most), true},
		{"text, gzip", output.Gzip, text(2 * most), false},
		{"text, zlib", output.Zlib, text(2 * most), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, log := startUDP(t, loopback)
			out := connectUDP(t, output.UDPOptions{Address: in.Addr("udp"), Compression: tt.compression, ChunkBytes: output.MinChunkBytes})
			send(t, out, tt.frame)
			if err := log.WaitFor(within(t), 1); err != nil {
				t.Fatal(err)
			}
			got := log.Messages()[0].Raw
			if cut := bytes.Contains(got, []byte(`"_truncated":"true"`)); cut != tt.cut || !cut && !bytes.Equal(got, tt.frame[:len(tt.frame)-1]) || cut && len(got) < most-100 {
				t.Errorf("%d bytes of %d arrive, cut is %v", len(got), len(tt.frame), cut)
			}
		})
	}
}

// text returns a frame of n bytes with its NUL, which compresses well.
func text(n int) []byte {
	head := `{"version":"1.1","host":"h","short_message":"m","level":6,"full_message":"`
	return []byte(head + strings.Repeat("x", n-len(head)-3) + `"}` + "\x00")
}

func TestUDPRejected(t *testing.T) {
	in, log := startUDP(t, loopback)
	out := connectUDP(t, output.UDPOptions{Address: in.Addr("udp"), ChunkBytes: output.MinChunkBytes})
	poison := "[" + strings.Repeat("1,", 50<<10) + "1]" // none of ours, so it cannot be cut
	err := out.Send(within(t), []byte(poison+"\x00"))
	var rejected *output.Rejected
	if !errors.As(err, &rejected) || string(rejected.Frame) != poison {
		t.Fatalf("got %v", err)
	}
	send(t, out, frames(0, 1))
	if err := log.WaitFor(within(t), 1); err != nil {
		t.Error(err)
	}
}

// TestUDPRefused: the receiver's machine says that nobody listens, and the messages
// since the last cut are not confirmed.
func TestUDPRefused(t *testing.T) {
	d := startDatagrams(t, output.UDPOptions{})
	send(t, d.UDP, frames(0, 1))
	wantCut(t, d.UDP, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	send(t, d.UDP, frames(1, 2)) // on loopback the answer is there when this returns
	if done, err := d.Cut(within(t), 2, false); done || err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Cut: %v, %v", done, err)
	}
	send(t, d.UDP, frames(1, 2))
	if err := d.Send(within(t), frames(2, 3)); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("Send: %v", err)
	}
	d.Abort()
	if err := d.Send(within(t), frames(1, 2)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Abort: %v", err)
	}
	if _, err := d.Cut(within(t), 3, false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Cut after Abort: %v", err)
	}
	if err := d.Connect(within(t)); err != nil { // nobody can know
		t.Error(err)
	}
}

func TestUDPConnect(t *testing.T) {
	out := output.NewUDP(output.UDPOptions{Address: "nowhere.invalid:12201"})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := out.Connect(ctx); err == nil || !strings.Contains(err.Error(), "nowhere.invalid:12201") {
		t.Errorf("got %v", err)
	}
}

// TestUDPToGoGELF: Graylog's own library reads what we send, as far as it can: its
// reader takes datagrams of 1420 bytes, and no messages between the chunks of others.
func TestUDPToGoGELF(t *testing.T) {
	for _, compression := range []output.Compression{output.NoCompression, output.Gzip, output.Zlib} {
		r, err := gogelf.NewReader(loopback)
		if err != nil {
			t.Fatal(err)
		}
		out := connectUDP(t, output.UDPOptions{Address: r.Addr(), Compression: compression})
		for _, n := range []int{300, 1420, 1421, 5 * 1408, 5*1408 + 1, 20000} {
			frame := noise(n + 1)
			send(t, out, frame)
			m, err := r.ReadMessage()
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]any
			if err := json.Unmarshal(frame[:n], &want); err != nil {
				t.Fatal(err)
			}
			if m.Short != "m" || m.Host != "h" || m.Level != 6 || m.Full != want["full_message"] {
				t.Errorf("compression %d, %d bytes: got %.200v", compression, n, m)
			}
		}
	}
}
