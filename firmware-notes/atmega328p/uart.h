/* The serial line: 8 data bits, no parity, 1 stop bit. */
#ifndef UART_H
#define UART_H

#include <stdint.h>

void uart_begin(void);

/* Waits until the UART takes the byte: 87 us at 115200 baud. There is no flow control, so
 * nobody can hold the sensor up: if no one listens, the bytes are gone, and the ring has them. */
void uart_put(uint8_t byte);

/* The next byte that was received, or -1. */
int16_t uart_get(void);

#endif
