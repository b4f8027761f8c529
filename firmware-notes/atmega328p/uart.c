#include "uart.h"

#include <avr/interrupt.h>
#include <avr/io.h>

#include "config.h"

#define BAUD_TOL 3 /* per cent; receivers sample each byte anew and stand 4 */
#include <util/setbaud.h>

/* Received bytes wait here until the main loop looks, at most one sent frame later. A power of
 * two, longer than the longest request. */
#define RECEIVED 64

static volatile uint8_t received[RECEIVED];
static volatile uint8_t head, tail;

ISR(USART_RX_vect)
{
    uint8_t byte = UDR0; /* must be read in any case: it clears the interrupt */
    uint8_t next = (head + 1) % RECEIVED;

    if (next != tail) { /* full: drop the byte; its request will be incomplete and ignored */
        received[head] = byte;
        head = next;
    }
}

void uart_begin(void)
{
    UCSR0A = USE_2X ? _BV(U2X0) : 0;
    UCSR0C = _BV(UCSZ01) | _BV(UCSZ00);
    UBRR0 = UBRR_VALUE; /* after these two: simavr takes the pace of the line from them here */
    UCSR0B = _BV(RXEN0) | _BV(TXEN0) | _BV(RXCIE0);
}

void uart_put(uint8_t byte)
{
    while (!(UCSR0A & _BV(UDRE0)))
        ;
    UDR0 = byte;
}

int16_t uart_get(void)
{
    uint8_t byte;

    if (tail == head)
        return -1;
    byte = received[tail];
    tail = (tail + 1) % RECEIVED;
    return byte;
}
