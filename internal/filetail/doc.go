// Package filetail delivers the lines of files and follows them as they grow, are
// rotated, truncated and removed: a source of the line that can be read again, like
// the journal. It does not parse lines and stores nothing.
//
// # What a file is
//
// A file is a stretch of content, not a name: what a program wrote from an empty
// file to its end. Rotation by rename gives it another name, rotation by copy and
// truncation another inode, compression another form. It is recognised, in this order:
//
//   - by device and inode, when the content there still agrees with what was read;
//   - by its content, under its own name or one that rotation makes of it ("app.log.1",
//     "app.log-20260131.gz", "app-20260131.log"), when it is where it was no more.
//
// Content agrees when the fingerprint of its first bytes (up to 1 KiB) and that of the
// last 64 bytes before the read position are the same; with a file that was empty when
// it was last there, only another empty one. Where it does not, the file under that name
// is a new one, read from its start.
//
// A file with a name of rotation that so far says the same as one that is still there
// may be its copy, just being made. It is left alone until the two differ, or until
// the other one is truncated or removed, and then takes over its position.
//
// # Position
//
// The position of the source is the list of files with their offsets, see entry. An
// offset is in bytes of the uncompressed content, and is always the start of a line,
// or lies in one of which the rest is left out.
package filetail
