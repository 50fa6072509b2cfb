// Package gelfin takes in GELF 1.1 over UDP, TCP and HTTP, as Graylog's inputs do, and
// hands each document to a Sink, which makes it durable. It relays for applications that
// speak GELF themselves: it does not read the documents; package parse does, when they
// come out of the spool again, see Decode.
//
// A TCP sender that closes its half and reads until the end knows then that everything
// is stored: a connection that ends in any other way is reset. An HTTP sender knows it
// from the answer 202.
//
// Sources: GELF 1.1 (https://go2docs.graylog.org/current/getting_in_log_data/gelf.html),
// and for what it does not say, what Graylog's inputs were measured to do.
package gelfin
