package socket

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Drops counts the datagrams that the kernel has dropped on a socket because its receive
// buffer was full (SO_RXQ_OVFL, socket(7)). The kernel's count belongs to the socket: it
// goes on over all processes that have it in turn.
type Drops struct {
	// Socket identifies the socket on this machine since it was booted (SO_COOKIE).
	Socket uint64

	total atomic.Uint32 // as far as it is known
	told  uint32        // owned by who calls Untold
}

// Drops returns the count of s, which other processes have told as far as told says for
// its number; nil: they have told nothing. Who reads the socket sets the option.
func (s *Socket) Drops(told func(socket uint64) uint32) *Drops {
	d := &Drops{}
	if raw, err := s.Conn().SyscallConn(); err == nil {
		// It never fails on a socket that is open; on one that is not nothing is counted.
		_ = raw.Control(func(fd uintptr) { d.Socket, _ = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_COOKIE) })
	}
	if told != nil {
		d.told = told(d.Socket)
		d.total.Store(d.told)
	}
	return d
}

// Read takes the kernel's count from the control messages of a datagram, which have it
// once there are any drops, and returns how many it is more than before. It is for one
// goroutine.
func (d *Drops) Read(control []byte) uint32 {
	const header = unix.SizeofCmsghdr
	if len(control) < header+4 || binary.NativeEndian.Uint32(control[header-4:]) != unix.SO_RXQ_OVFL {
		return 0
	}
	total := binary.NativeEndian.Uint32(control[header:])
	n := total - d.total.Load() // modulo 2^32, as the kernel counts
	if int32(n) <= 0 {
		return 0
	}
	d.total.Store(total)
	return n
}

// Untold returns how many drops were found since the last call, and the kernel's count
// with them: what the next process is to have for told.
func (d *Drops) Untold() (n, total uint32) {
	total = d.total.Load()
	n, d.told = total-d.told, total
	return n, total
}
