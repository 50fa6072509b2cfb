package intake

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// chunkBytes is how much of a message goes into a chunk.
const chunkBytes = 8000

// chunk returns a chunk (GELF 1.1, "Chunking").
func chunk(id uint64, sequence, count int, payload []byte) []byte {
	return append(append(binary.BigEndian.AppendUint64([]byte{0x1e, 0x0f}, id), byte(sequence), byte(count)), payload...)
}

// chunks returns a message in chunks.
func chunks(id uint64, message []byte) (all [][]byte) {
	count := (len(message) + chunkBytes - 1) / chunkBytes
	for piece := range slices.Chunk(message, chunkBytes) {
		all = append(all, chunk(id, len(all), count, piece))
	}
	return all
}

// bomb returns a document of n bytes, compressed.
func bomb(n int) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte(" "), n)) // never fails
	_ = z.Close()
	return b.Bytes()
}

// bombs sends Count documents of 5 MB each that are small on the way, Rate of them per second.
func (f *flow) bombs(a *sent) error {
	body := bomb(5 << 20)
	client := &http.Client{Timeout: 10 * time.Second}
	p := newPace(f.Rate)
	for i := 0; a.Sent < f.Count; i++ {
		_ = p.wait(i, nil)
		if !strings.HasPrefix(f.Listen, "gelf+http:") {
			c, err := f.dial(a)
			if err != nil {
				return err
			}
			_, err = c.Write(body)
			c.Close()
			if err != nil {
				return err
			}
			a.Sent++
			continue
		}
		resp, err := client.Post(strings.TrimPrefix(f.Listen, "gelf+")+"/gelf", "application/json", bytes.NewReader(body))
		if err != nil {
			continue // the crowd beside it has all connections
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			return fmt.Errorf("a bomb is answered by %s", resp.Status)
		}
		a.Sent++
	}
	return nil
}

// chunkLies sends Count chunks of messages that never become complete, or break the rules,
// Rate of them per second.
func (f *flow) chunkLies(a *sent) error {
	c, err := f.dial(a)
	if err != nil {
		return err
	}
	defer c.Close()
	p := newPace(f.Rate)
	for i := range f.Count {
		_ = p.wait(i, nil)
		lie := chunk(uint64(i), 0, 128, []byte("x"))
		switch i % 8 {
		case 0:
			lie = chunk(uint64(i), 5, 5, nil)
		case 1:
			lie = chunk(uint64(i), 0, 255, nil)
		case 2:
			lie = lie[:i/8%12]
		}
		if _, err := c.Write(lie); err != nil {
			return err
		}
		a.Sent++
	}
	return nil
}

// posts sends each message by HTTP until it is answered by 202.
func (f *flow) posts(a *sent) error {
	p := newPace(f.Rate)
	client := &http.Client{}
	for n := 1; n <= f.Count; n++ {
		if err := p.wait(n, nil); err != nil {
			return err
		}
		for answered := false; !answered; {
			resp, err := client.Post(strings.TrimPrefix(f.Listen, "gelf+")+"/gelf", "application/json", strings.NewReader(f.message(n)))
			if a.Sent < n {
				a.Sent = n
			} else {
				a.Again++
			}
			if err != nil {
				a.Broken++ // a refusal too: what is sent to a socket of systemd meets none
				if strings.Contains(err.Error(), "connection refused") {
					a.Refused++
					return err
				}
				continue
			}
			_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
			resp.Body.Close()
			answered = resp.StatusCode == http.StatusAccepted
			if !answered && resp.StatusCode != http.StatusServiceUnavailable {
				return fmt.Errorf("message %d: %s", n, resp.Status)
			}
		}
	}
	return nil
}
