// The standard streams: open from the start, and checked at the end.
#ifndef KL_HOST_STREAMS_H
#define KL_HOST_STREAMS_H

// Opens those of descriptors 0 to 2 that are closed, so that no file takes their place. Nothing can
// be read from 0; a write to 1 fails, and kl_streams_end reports it; what goes to 2 is dropped.
void kl_streams_begin(void);

// Flushes standard output. Returns the exit status: `status`, or a failure where that is 0 and some
// of the output could not be written. Reports it, except where the reader went away (141, as a
// shell gives for SIGPIPE).
int kl_streams_end(int status);

#endif
