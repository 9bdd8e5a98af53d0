// AES-128-CTR that is fast in calls of 16 bytes, as libssh2 makes them.
#ifndef KL_IO_SSH_CIPHER_H
#define KL_IO_SSH_CIPHER_H

// Has libcrypto prefer it, for the whole process. Where that fails, its own goes on.
void kl_ssh_cipher_start(void);

#endif
