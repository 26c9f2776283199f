/* crc.h: CRC-32 as in zlib (polynomial 0xedb88320, reflected). */
#ifndef MCC_CORE_CRC_H
#define MCC_CORE_CRC_H

#include <stddef.h>
#include <stdint.h>

/* Carries on from `crc` over n bytes. A checksum begins with ~0u and is the complement of what comes out last. */
uint32_t mcc_crc32(uint32_t crc, const void *bytes, size_t n);

#endif
