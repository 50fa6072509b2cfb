package filetail

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// errNotRegular means that a path leads to something that cannot be followed.
var errNotRegular = errors.New("not a regular file")

// node is a file's place on its file system; it may be given to another file when
// the file is gone.
type node struct{ dev, ino uint64 }

// status is what a file looks like from outside.
type status struct {
	node  node
	size  int64
	mtime int64 // microseconds since the Unix epoch
	links uint64
}

func statusOf(st *unix.Stat_t) (status, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return status{}, errNotRegular
	}
	return status{node: node{uint64(st.Dev), st.Ino}, size: st.Size, mtime: st.Mtim.Sec*1_000_000 + st.Mtim.Nsec/1000,
		links: uint64(st.Nlink)}, nil
}

// look returns the status of the regular file at path.
func look(path string) (status, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return status{}, err
	}
	return statusOf(&st)
}

// content is the content of an open file, uncompressed.
type content struct {
	f *os.File
	// The rest is for a compressed file: a stream that stands at offset at, nil
	// before its start.
	inflate func(io.Reader) (io.Reader, error)
	stream  io.Reader
	at      int64
	end     func()
}

// open opens the file at path. It returns errNotRegular for anything but a regular
// file, without waiting for the other end of a pipe.
func open(path string) (*content, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	c := &content{f: f, inflate: inflaterOf(path)}
	if _, err := c.status(); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

func (c *content) status() (status, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(c.f.Fd()), &st); err != nil {
		return status{}, fmt.Errorf("fstat: %w", err)
	}
	return statusOf(&st)
}

func (c *content) close() {
	c.rewind()
	c.f.Close()
}

// rewind goes back to the start of a compressed file.
func (c *content) rewind() {
	if c.end != nil {
		c.end()
	}
	c.stream, c.end, c.at = nil, nil, 0
}

// skipBytes bounds how much of a compressed file is passed over in one ReadAt.
const skipBytes = 4 << 20

// errSkipping means that ReadAt has come nearer to its offset and is to be called again.
var errSkipping = errors.New("offset not reached yet")

// ReadAt implements io.ReaderAt, but that it may return fewer bytes without an
// error, and, for a compressed file, errSkipping. There offsets should ascend.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	if c.inflate == nil {
		return c.f.ReadAt(p, off)
	}
	if off < c.at {
		c.rewind()
	}
	if c.stream == nil {
		if err := c.start(); err != nil {
			return 0, err
		}
	}
	n, err := io.CopyN(io.Discard, c.stream, min(off-c.at, skipBytes))
	c.at += n
	if err != nil {
		return 0, err
	}
	if c.at < off {
		return 0, errSkipping
	}
	m, err := c.stream.Read(p)
	c.at += int64(m)
	return m, err
}

func (c *content) start() error {
	if _, err := c.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s, err := c.inflate(bufio.NewReaderSize(c.f, 32<<10))
	if err != nil {
		if errors.Is(err, io.EOF) { // not even a header yet
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	c.stream = s
	if d, ok := s.(*zstd.Decoder); ok {
		c.end = d.Close
	}
	return nil
}

// maxWindowBytes bounds the memory of a decompressor: that of "xz -9" and "zstd
// --long" fit, "zstd --ultra --long=31" does not.
const maxWindowBytes = 128 << 20

// inflaterOf returns what decompresses a file of that name; nil for a plain one.
func inflaterOf(path string) func(io.Reader) (io.Reader, error) {
	switch {
	case strings.HasSuffix(path, ".gz"):
		return func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }
	case strings.HasSuffix(path, ".zst"):
		return func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
		}
	case strings.HasSuffix(path, ".xz"):
		return newXZReader
	}
	return nil
}

// newXZReader refuses a dictionary above maxWindowBytes before it is allocated. The
// first block's header says how large it is (xz file format 1.1, section 3.1): 12
// bytes of stream header, then size, flags, optional sizes and the filter LZMA2,
// ID 0x21, size of properties 1, dictionary size (section 5.3.1).
func newXZReader(r io.Reader) (io.Reader, error) {
	b := r.(*bufio.Reader)
	head, err := b.Peek(12 + 1)
	if err != nil {
		return nil, err
	}
	head, err = b.Peek(12 + 4*(int(head[12])+1))
	if err != nil {
		return nil, err
	}
	for i := 14; i+2 < len(head); i++ {
		if bits := head[i+2]; head[i] == 0x21 && head[i+1] == 1 && dictionaryBytes(bits) > maxWindowBytes {
			return nil, fmt.Errorf("xz dictionary of %d bytes is larger than %d", dictionaryBytes(bits), maxWindowBytes)
		}
	}
	return xz.ReaderConfig{DictCap: 4096}.NewReader(r)
}

// dictionaryBytes decodes the dictionary size of LZMA2.
func dictionaryBytes(bits byte) int64 {
	return int64(2|bits&1) << min(bits/2+11, 40)
}

// fingerprint is a hash of n bytes, 64-bit FNV-1a. The zero value is that of none.
type fingerprint struct {
	n   int
	sum uint64
}

func fingerprintOf(b []byte) fingerprint {
	if len(b) == 0 {
		return fingerprint{}
	}
	h := fnv.New64a()
	h.Write(b)
	return fingerprint{n: len(b), sum: h.Sum64()}
}

// How much of a file its fingerprints cover.
const (
	headBytes = 1 << 10
	tailBytes = 64
)

// readFull reads up to len(p) bytes at off; fewer only at the end of what there is.
// what there is of a compressed file that is being written may end anywhere.
func (c *content) readFull(p []byte, off int64) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = c.ReadAt(p[n:], off+int64(n))
		n += m
		if errors.Is(err, errSkipping) {
			err = nil
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// head returns the first bytes, at most headBytes.
func (c *content) head() ([]byte, error) {
	b := make([]byte, headBytes)
	n, err := c.readFull(b, 0)
	if n > 0 && c.inflate != nil {
		err = nil // what is damaged, or not there yet, shows when it is read
	}
	return b[:n], err
}

// ends reports whether a gzip file says that it holds offset bytes, so that they need not
// be decompressed to see that nothing is behind them: its last 4 bytes are the length of
// the content modulo 2^32 (RFC 1952 section 2.3.1).
func (c *content) ends(offset, size int64) bool {
	var b [4]byte
	if !strings.HasSuffix(c.f.Name(), ".gz") || size < 20 {
		return false
	}
	_, err := c.f.ReadAt(b[:], size-4)
	return err == nil && binary.LittleEndian.Uint32(b[:]) == uint32(offset)
}

// has reports whether the bytes before offset end have that fingerprint.
func (c *content) has(fp fingerprint, end int64) bool {
	b := make([]byte, fp.n)
	n, _ := c.readFull(b, end-int64(fp.n))
	return n == fp.n && fingerprintOf(b) == fp
}
