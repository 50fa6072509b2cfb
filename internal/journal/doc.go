// Package journal reads systemd journal files: it opens them, walks their
// entries, merges several files into one ordered stream, follows them while
// journald writes, and resumes from positions and cursors.
//
// The format is that of systemd's JOURNAL_FILE_FORMAT document as systemd 249
// and later write it: regular and compact files, keyed or unkeyed hash tables,
// values compressed with xz, lz4 or zstd. Where document and systemd differ,
// `journalctl -o export --all` is the authority.
//
// Files are read with pread(2) into a few windows, never mapped: journald
// truncates and punches holes into files that it rotates or vacuums, which turns
// an access to a mapping into SIGBUS, but a pread into a short read.
//
// A file with incompatible flags that are not known here is read through
// `journalctl -o export --all`, a child process that gets the open file
// (fallback.go). Positions, order and the counting of damage are as for others,
// at some twenty times the CPU time; while following, its entries may come up to
// a quarter of a second after later ones of other files. Of its header only
// file_id is used, and seqnum_id as a hint.
//
// What is trusted: the published number of entries in the header (n_entries),
// which journald increases after everything that it counts is in place; and,
// each after a check of its own, the chain of entry arrays, ENTRY and DATA
// objects. What is not trusted: the state byte, arena_size, tail_* fields, hash
// tables (never read), sizes and offsets of objects (bounded by the file and by
// limits before anything is allocated).
//
// The package does not verify seals, does not use the hash tables to search for
// fields, and knows nothing about what the messages mean.
package journal
