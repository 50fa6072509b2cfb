// Package spool keeps raw messages on disk until they are confirmed: a first-in,
// first-out queue for sources that cannot be read a second time (sockets, standard
// input). Spool.Append stores messages durably, Source delivers them again, as a
// source of the line like the journal. The package does not listen, parse or send.
//
// # What a crash can do
//
// Assumed of the system: fdatasync of a file makes its content and length durable,
// fsync of a directory makes the names in it durable, rename and unlink are atomic.
// Nothing is assumed of what was not synced: of such writes any part may be found
// after a power cut, in any order, torn anywhere, and such names may be there or not.
// After a failed fdatasync nothing is known of what was written since the last one
// that succeeded, and a later success says nothing of it.
//
// Promised:
//
//  1. What Append returned nil for is delivered until it is confirmed, unchanged and
//     in the order of its sequence numbers, after a kill or a power cut at any moment.
//  2. A process delivers only what it has made durable, or what it has found. A sequence
//     number, and with it an event ID, never stands for two messages: behind an end that
//     is not that of a closed spool 2^20 numbers, more than a segment can hold, are left
//     out, for what was found there may have vanished again, or never been on the disk.
//  3. What was not confirmed, or confirmed and not yet saved in the file cursor, is
//     delivered again. What Append did not return nil for may be delivered too.
//  4. Damage costs the messages it hits. Their number is known, from the sequence
//     numbers, and counted (Stats.Lost), with one exception: in the last batch of a spool
//     that was not closed, damage and a write that was never completed look the same;
//     nothing there is counted but bytes behind the last readable frame (Stats.TornBytes).
//  5. No content of the directory keeps Open from working, but for a version it does
//     not know (VersionError); then nothing is changed.
//
// How: a segment is written by one process, from its creation to its end, and never
// again. Append writes the frames behind the last durable one, syncs the file, and
// for a new segment the directory, and only then returns. When a write or a sync
// fails, the segment is left as it is and never written or synced again: what is not
// durable, still in memory, goes to a new segment. Segments are unlinked after the
// cursor says, durably, that nothing in them is needed; one that is missing below the
// cursor is nothing unusual, one that comes back is removed.
//
// # Files
//
// A process that uses the spool holds a lock (flock(2)) on the directory, which holds,
// besides files that are none of the spool's business:
//
//	cursor                up to where messages are confirmed
//	0000000000000001.seg  a segment; its name is the sequence number of its first
//	                      message in hexadecimal, 16 digits
//	….seg.bad             a segment that cannot be read at all, set aside by Open
//	cursor.tmp            a new cursor, or what a crash has left of one
//
// Numbers are little-endian. Checksums are CRC-32C (Castagnoli, RFC 3720 appendix
// B.4) of the bytes said. A segment begins with a header, 56 bytes:
//
//	 0  8  magic "LSSPOOL\n"
//	 8  4  version of the format: 1
//	12  4  checksum of bytes 0 to 11; these 16 bytes are the same in all versions
//	16 16  ID of the spool, random, the same in all files of the directory
//	32  8  after: the last message in front of this segment; the numbers between it and
//	       the first message here were left out
//	40  8  sure: the last message in front of this segment that was certainly
//	       acknowledged; one above it that is missing is torn, not lost
//	48  4  checksum of bytes 0 to 47
//	52  4  zero
//
// Frames follow, one for each message, without gaps, numbered one by one:
//
//	 0  4  checksum of bytes 4 to 20+n-1
//	 4  4  n, length of the payload, at least 10
//	 8  8  sequence number, XORed with bytes 0 to 7 of the ID, which no message can
//	       know: no text of a message can pass for a frame
//	16  4  how many frames of its batch, what one sync made durable, stand in front of it
//	20  n  payload
//
// A frame that fails its checksum is damaged: the next one is looked for at each byte
// behind its start. Zeros are no frame. Frames numbered above the next segment's after
// were never acknowledged there: they stand in the next segment, if anywhere.
//
// The payload is the envelope and the message:
//
//	 0  8  receive time, microseconds since the Unix epoch
//	 8  2  m, length of the fields
//	10  m  fields: kind (1 byte), length (1 byte), value
//	10+m   the message, to the end
//
// Kinds of fields; one that is not known is passed over, an empty one is left out:
//
//	1 source  2 peer  3 transport  4 severity (one digit)  5 facility (decimal)
//	6 host    7 identifier (tag)   8 unit   9 process ID (decimal)
//
// The file cursor is two slots of 72 bytes, at 0 and 512, written in turn in place, so
// that neither a torn write nor a full disk costs both; the valid one of the higher
// generation counts:
//
//	 0 16  magic "LSCURSR\n", version and their checksum, as in a segment
//	16 16  ID of the spool
//	32  8  generation
//	40  8  head: all messages up to this one are confirmed, or were discarded
//	48  8  tail: the last message that was certainly acknowledged
//	56  8  next: no number from here on was ever given to a message
//	64  4  checksum of bytes 0 to 63
//	68  4  zero
//
// Without a valid cursor the head is before the oldest message (duplicates rather than
// loss). Without a valid cursor and header in the whole directory, no frame can be
// told from garbage: the segments are set aside, and the spool begins anew.
package spool
