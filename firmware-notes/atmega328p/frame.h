/* Frames for a serial line: COBS with a CRC-16. No hardware, no memory of its own: the same
 * file serves an AVR, an ESP32, an RP2040 and a PC.
 *
 *     payload, CRC high byte, CRC low byte  ->  COBS  ->  0x00
 *
 * The CRC is CRC-16/CCITT-FALSE: polynomial 0x1021, begins with 0xFFFF, not reflected, not
 * inverted; of "123456789" it is 0x29B1. COBS (Cheshire and Baker, 1999) rewrites bytes so
 * that none is 0x00, which then only ever means the end of a frame: whoever has lost the
 * thread finds it again at the next 0x00.
 */
#ifndef FRAME_H
#define FRAME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FRAME_CRC_BEGIN 0xFFFFu

/* The longest payload: with its CRC it fits one COBS block, so that coding never needs to
 * know more than the bytes up to the next zero. */
#define FRAME_PAYLOAD_MAX 252

/* The room that a coded frame needs: CRC, COBS code byte, delimiter. */
#define FRAME_ROOM(payload_bytes) ((payload_bytes) + 4)

/* The CRC of one more byte. */
uint16_t frame_crc(uint16_t crc, uint8_t byte);

/* Codes a payload into `coded`, which has FRAME_ROOM(length) bytes; returns how many it used,
 * with the delimiter. A length above FRAME_PAYLOAD_MAX gives no frame and 0. */
size_t frame_encode(const uint8_t *payload, size_t length, uint8_t *coded);

#ifdef __cplusplus
}
#endif

#endif
