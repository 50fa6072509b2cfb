// Package syslog takes in syslog messages: over UDP, TCP, TLS and unix sockets of
// both kinds, in the framings of RFC 6587, and makes entries of what package header
// reads in them.
//
// Intake and reading are apart. A Listener hands raw messages with their receive
// time and peer to a Sink, which stores them; a Decoder makes an entry of a stored
// message when the line asks for it. So intake does the least work, and what is
// stored outlives a change of how it is read. Nothing is refused for its shape: what
// has no header, or a wrong one, is a message with what the listener knows.
//
// The package does not store, know Winston, or send.
package syslog
