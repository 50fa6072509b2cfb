package intake

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// attack is what a sender does that means harm, or is broken.
func (f *flow) attack(a *sent) error {
	switch f.Attack {
	case "endless":
		return f.endless(a)
	case "crowd":
		return f.crowd(a)
	case "drip":
		return f.drip(a)
	case "lies":
		return f.lies(a)
	case "noise":
		return f.noise(a)
	case "bombs":
		return f.bombs(a)
	case "chunks":
		return f.chunkLies(a)
	}
	return fmt.Errorf("no attack %q", f.Attack)
}

// endless sends Size octets that are one line without an end.
func (f *flow) endless(a *sent) error {
	c, err := f.dial(a)
	if err != nil {
		return err
	}
	defer c.Close()
	block := bytes.Repeat([]byte("x"), 1<<20)
	for left := f.Size; left > 0; left -= len(block) {
		if _, err := c.Write(block[:min(left, len(block))]); err != nil {
			return err
		}
	}
	return prove(c)
}

// crowd makes Count connections and keeps them, as far as it may, for Linger.
func (f *flow) crowd(a *sent) error {
	var all []net.Conn
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	for range f.Count {
		c, err := f.dial(a)
		if err != nil {
			return err
		}
		all = append(all, c)
		a.Sent++
	}
	pause(f.Linger)
	return nil
}

// drip sends a message octet by octet, Rate of them per second, for Linger.
func (f *flow) drip(a *sent) error {
	c, err := f.dial(a)
	if err != nil {
		return err
	}
	defer c.Close()
	text := strings.Repeat("<14>slow ", 1000)
	p := newPace(f.Rate)
	for i := 0; time.Since(p.start) < f.Linger; i++ {
		_ = p.wait(i, nil)
		if _, err := io.WriteString(c, text[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// lies sends counts that are wrong (RFC 6587 section 3.4.1).
func (f *flow) lies(a *sent) error {
	for _, text := range []string{
		"99999999999999999999 <14>more than a number can be", "4294967296 <14>4 GB", "1048577 <14>1 MiB and one",
		"5 <14>longer than five", "70 <14>shorter than seventy", "0 <14>nothing", "-1 <14>less than nothing",
		"00000000000000000012 <14>zeros", "12<14>no blank", "12", "12 ", "3 <14>x\n7 <14>y\n",
	} {
		c, err := f.dial(a)
		if err != nil {
			return err
		}
		_, err = io.WriteString(c, text)
		if err == nil {
			err = prove(c)
		}
		c.Close()
		if err != nil {
			return fmt.Errorf("send %q: %w", text, err)
		}
		a.Sent++
	}
	return nil
}

// noise sends Count pieces of random octets, NUL, ESC and wrong UTF-8 among them.
func (f *flow) noise(a *sent) error {
	c, err := f.dial(a)
	if err != nil {
		return err
	}
	defer c.Close()
	rnd := rand.NewChaCha8([32]byte{30})
	for range f.Count {
		piece := make([]byte, 1024)
		_, _ = rnd.Read(piece) // never fails
		if _, err := c.Write(append(piece, "\x00\x1b[2J\xff\xfe\n"...)); err != nil {
			return err
		}
		a.Sent++
	}
	return nil
}
