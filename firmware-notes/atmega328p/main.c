/* Reference firmware for a sensor on an ATmega328P (Arduino Uno, Nano, Pro Mini).
 *
 * What it does, and what any sensor should do:
 *
 * - It measures on a schedule that does not drift, whether anyone listens or not.
 * - Each reading says which start of the sensor it belongs to, which number it has, and when
 *   it was measured, so that a gap is seen, a repetition is recognised, and a reading that
 *   comes late still gets its right time.
 * - The latest readings stay in a ring and are sent again on request.
 * - It says what it is when it starts and when it is asked (`?`).
 * - It restarts by itself when it hangs.
 *
 * Spoken by the sensor: a banner, and readings. With MODE_JSON each is a line:
 *
 *     {"id":"outstation-uno","firmware":"1.0.0","protocol":1,"boot":7,"cause":"power",...}
 *     {"boot":7,"seq":12,"ms":1200,"celsius":21.4,"millivolts":1304}
 *
 * Otherwise each is a COBS frame with a CRC-16 (frame.h). The banner's payload is the same
 * text, without the line's end; a reading's payload is, in little-endian order:
 *
 *     'D' | boot u16 | seq u32 | ms u32 | celsius i16, tenths | millivolts u16
 *
 * Understood by the sensor: `?` asks for the banner; `R7:12-20` and a newline ask for the
 * readings 12 to 20 of start 7 again. What the ring no longer holds is left out, and a request
 * for another start is ignored. A second request replaces the first.
 *
 * To make it yours: sensor_begin() and sensor_read(), and the two fields where they are sent.
 */
#include <avr/interrupt.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/sleep.h>
#include <avr/wdt.h>
#include <stdbool.h>
#include <string.h>
#include <util/atomic.h>

#include "boot.h"
#include "config.h"
#include "frame.h"
#include "uart.h"

struct reading {
    uint32_t ms; /* when it was measured, since the start */
    int16_t celsius_tenths;
    uint16_t millivolts;
};

/* The longest frame at 10 bits a byte must leave the line room for resending. */
#ifdef MODE_JSON
#define READING_BYTES_MAX 86
#else
#define READING_BYTES_MAX 20
#endif
#if READING_BYTES_MAX * 10 * 1000 * 2 > PERIOD_MS * BAUD
#error "The line is too slow: at least half of it must be left for readings that are sent again."
#endif
#if RING_READINGS > 255
#error "A place in the ring is a byte here, and the chip has no room for more anyway."
#endif

static uint16_t boot;
static uint32_t seq; /* of the newest reading; the first is 1 */

/* --- Time: 1 kHz from Timer 1 ------------------------------------------------ */

static volatile uint32_t ticks_ms;

ISR(TIMER1_COMPA_vect)
{
    ticks_ms++;
}

static void clock_begin(void)
{
    TCCR1B = _BV(WGM12) | _BV(CS11) | _BV(CS10); /* F_CPU / 64, back to 0 at OCR1A */
    OCR1A = F_CPU / 64 / 1000 - 1;
    TIMSK1 = _BV(OCIE1A);
}

static uint32_t clock_ms(void)
{
    uint32_t ms;

    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) /* four bytes: an interrupt may come in between */
    {
        ms = ticks_ms;
    }
    return ms;
}

/* --- The sensor: a TMP36 at A0, any voltage at A1 --------------------------- */

static void sensor_begin(void)
{
    ADCSRA = _BV(ADEN) | _BV(ADPS2) | _BV(ADPS1) | _BV(ADPS0); /* 125 kHz */
}

static uint16_t sensor_millivolts(uint8_t channel)
{
    ADMUX = _BV(REFS0) | channel; /* against the supply of 5 V */
    ADCSRA |= _BV(ADSC);
    loop_until_bit_is_clear(ADCSRA, ADSC);
    return (uint32_t)ADC * 5000 / 1024;
}

static void sensor_read(struct reading *reading)
{
    /* 10 mV a degree, 500 mV at 0 degrees: a millivolt is a tenth of a degree. */
    reading->celsius_tenths = (int16_t)sensor_millivolts(0) - 500;
    reading->millivolts = sensor_millivolts(1);
}

/* --- The ring ---------------------------------------------------------------- */

static struct reading ring[RING_READINGS];
static uint8_t newest; /* the place of reading `seq` */

static void ring_add(const struct reading *reading)
{
    newest = newest + 1 < RING_READINGS ? newest + 1 : 0;
    ring[newest] = *reading;
    seq++;
}

static uint32_t ring_first(void) /* the lowest number that is still there */
{
    return seq > RING_READINGS ? seq - RING_READINGS + 1 : 1;
}

static const struct reading *ring_at(uint32_t number)
{
    uint8_t age = seq - number;

    return &ring[newest >= age ? newest - age : newest + RING_READINGS - age];
}

/* --- Speaking ---------------------------------------------------------------- */

static char text[160];
static uint8_t text_length;

static void text_add(char c)
{
    if (text_length < sizeof text)
        text[text_length++] = c;
}

static void text_add_flash(const char *from) /* PSTR(...): texts must not take RAM */
{
    char c;

    while ((c = pgm_read_byte(from++)) != 0)
        text_add(c);
}

static void text_add_number(uint32_t number)
{
    char digits[10];
    uint8_t n = 0;

    do {
        digits[n++] = '0' + number % 10;
    } while (number /= 10);
    while (n)
        text_add(digits[--n]);
}

#ifdef MODE_JSON

static void text_add_tenths(int16_t number)
{
    uint16_t amount = number;

    if (number < 0) {
        text_add('-');
        amount = -amount;
    }
    text_add_number(amount / 10);
    text_add('.');
    text_add('0' + amount % 10);
}

static void send_text(void)
{
    uart_put('\n'); /* before it, too: noise on the idle line must not become part of it */
    for (uint8_t i = 0; i < text_length; i++)
        uart_put(text[i]);
    uart_put('\n');
}

static void send_reading(uint32_t number)
{
    const struct reading *reading = ring_at(number);

    text_length = 0;
    text_add_flash(PSTR("{\"boot\":"));
    text_add_number(boot);
    text_add_flash(PSTR(",\"seq\":"));
    text_add_number(number);
    text_add_flash(PSTR(",\"ms\":"));
    text_add_number(reading->ms);
    text_add_flash(PSTR(",\"celsius\":"));
    text_add_tenths(reading->celsius_tenths);
    text_add_flash(PSTR(",\"millivolts\":"));
    text_add_number(reading->millivolts);
    text_add('}');
    send_text();
}

#else

static void send_frame(const void *payload, uint8_t length)
{
    uint8_t coded[FRAME_ROOM(sizeof text)];
    size_t coded_bytes = frame_encode(payload, length, coded);

    uart_put(0); /* before it, too: noise on the idle line must not become part of it */
    for (size_t i = 0; i < coded_bytes; i++)
        uart_put(coded[i]);
}

static void send_text(void)
{
    send_frame(text, text_length);
}

static void send_reading(uint32_t number)
{
    const struct reading *reading = ring_at(number);
    /* The chip is little-endian, and the compiler leaves no gaps. */
    const struct __attribute__((packed)) {
        char type;
        uint16_t boot;
        uint32_t seq, ms;
        int16_t celsius_tenths;
        uint16_t millivolts;
    } payload = {'D', boot, number, reading->ms, reading->celsius_tenths, reading->millivolts};

    send_frame(&payload, sizeof payload);
}

#endif

static void send_banner(void)
{
    text_length = 0;
    text_add_flash(PSTR("{\"id\":\"" NAME "\",\"firmware\":\"" FIRMWARE "\",\"protocol\":"));
    text_add_number(PROTOCOL);
    text_add_flash(PSTR(",\"boot\":"));
    text_add_number(boot);
    text_add_flash(PSTR(",\"cause\":\""));
    text_add_flash(boot_cause());
    text_add_flash(PSTR("\",\"seq\":"));
    text_add_number(seq);
    text_add_flash(PSTR(",\"ring\":"));
    text_add_number(RING_READINGS);
    text_add_flash(PSTR(",\"period_ms\":"));
    text_add_number(PERIOD_MS);
    text_add('}');
    send_text();
}

/* --- Listening --------------------------------------------------------------- */

static uint32_t again_next = 1, again_last; /* readings to be sent again; none when next > last */

/* The number at *at, ended by `end`; false when it is none or more than 32 bits. */
static bool parse_number(const char **at, char end, uint32_t *number)
{
    const char *c = *at;

    for (*number = 0; *c >= '0' && *c <= '9'; c++) {
        uint8_t digit = *c - '0';

        if (*number > (UINT32_MAX - digit) / 10)
            return false;
        *number = *number * 10 + digit;
    }
    if (c == *at || *c != end)
        return false;
    *at = c + 1;
    return true;
}

/* "R7:12-20": readings 12 to 20 of start 7. What is not understood asks for nothing. */
static void obey(const char *request)
{
    uint32_t of_boot, first, last;

    if (*request++ != 'R' || !parse_number(&request, ':', &of_boot) ||
        !parse_number(&request, '-', &first) || !parse_number(&request, 0, &last))
        return;
    if (of_boot != boot || first == 0)
        return;
    again_next = first;
    again_last = last < seq ? last : seq;
}

static void listen(void)
{
    static char request[40];
    static uint8_t length;
    int16_t byte;

    while ((byte = uart_get()) >= 0) {
        if (byte == '?') { /* in any state: a terminal's user is answered at once */
            send_banner();
            length = 0;
        } else if (byte == '\r' || byte == '\n') {
            if (length < sizeof request) {
                request[length] = 0;
                obey(request);
            }
            length = 0;
        } else if (length < sizeof request) {
            request[length++] = byte; /* one that is too long stays too long until its end */
        }
    }
}

/* --- Life -------------------------------------------------------------------- */

int main(void)
{
    uint32_t due = PERIOD_MS;

    boot = boot_count();
    sensor_begin();
    clock_begin();
    uart_begin();
    set_sleep_mode(SLEEP_MODE_IDLE);
    wdt_enable(WDTO_2S);
    sei();
    send_banner();
    for (;;) {
        struct reading reading;

        wdt_reset(); /* here alone: whatever hangs, hangs this loop */
        listen();
        reading.ms = clock_ms();
        if ((int32_t)(reading.ms - due) >= 0) {
            due += PERIOD_MS; /* not "now + period": that would drift */
            sensor_read(&reading);
            ring_add(&reading);
            send_reading(seq);
        } else if (again_next <= again_last) {
            /* One at a time, between the new ones, which go first. */
            if (again_next < ring_first())
                again_next = ring_first();
            if (again_next <= again_last)
                send_reading(again_next++);
        } else {
            sleep_mode(); /* until the next millisecond or received byte */
        }
    }
}
