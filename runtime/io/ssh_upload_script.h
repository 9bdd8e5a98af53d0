// What runs on the host for the upload of a file.
#ifndef KL_IO_SSH_UPLOAD_SCRIPT_H
#define KL_IO_SSH_UPLOAD_SCRIPT_H

// Words: target, size, mode, owner or "", suffix of the unfinished file, "1" to keep it, mark or
// "", dd's conversions, "1" if it may go over several channels. Input: with a mark, the number of
// further channels and a newline; this channel's bytes of the file; its sha256 in hex and a
// newline.
extern const char kl_ssh_upload_script[];
// Of a further channel. Words: the mark, the channel's number from 1, the unfinished file, how much
// of it is there, size, dd's conversions. Input: the number of further channels and a newline; its
// slices.
extern const char kl_ssh_upload_more_script[];

#endif
