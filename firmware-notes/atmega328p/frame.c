#include "frame.h"

uint16_t frame_crc(uint16_t crc, uint8_t byte)
{
    crc ^= (uint16_t)byte << 8;
    for (uint8_t bit = 0; bit < 8; bit++)
        crc = crc & 0x8000u ? (uint16_t)(crc << 1) ^ 0x1021u : (uint16_t)(crc << 1);
    return crc;
}

size_t frame_encode(const uint8_t *payload, size_t length, uint8_t *coded)
{
    uint16_t crc = FRAME_CRC_BEGIN;
    size_t code = 0; /* where the distance to the next zero goes */
    size_t end = 1;

    if (length > FRAME_PAYLOAD_MAX)
        return 0;
    for (size_t i = 0; i < length; i++)
        crc = frame_crc(crc, payload[i]);
    for (size_t i = 0; i < length + 2; i++) {
        uint8_t byte = i < length ? payload[i] : i == length ? (uint8_t)(crc >> 8) : (uint8_t)crc;
        if (byte != 0) {
            coded[end++] = byte;
        } else {
            coded[code] = (uint8_t)(end - code);
            code = end++;
        }
    }
    coded[code] = (uint8_t)(end - code);
    coded[end++] = 0;
    return end;
}
