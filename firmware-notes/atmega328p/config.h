/* What you may want to change. Each may also be given to make: `make BAUD=9600 MODE=JSON`. */
#ifndef CONFIG_H
#define CONFIG_H

#define NAME "outstation-uno" /* what the sensor calls itself */
#define FIRMWARE "1.0.0"      /* count up with each change */
#define PROTOCOL 1            /* count up when a receiver must know of the change */

#ifndef F_CPU
#define F_CPU 16000000UL
#endif

/* 2.1 % off at 16 MHz, as an Uno's own USB chip is. For another adapter over metres of
 * wire, 38400 or 250000 are exact. */
#ifndef BAUD
#define BAUD 115200
#endif

#ifndef PERIOD_MS
#define PERIOD_MS 100 /* between two readings */
#endif

/* MODE_JSON: a line of JSON for each reading. Otherwise: COBS frames with a CRC-16, a
 * third of the size, and noise on the line is noticed. */
/* #define MODE_JSON */

/* Readings kept for resending, 8 bytes each. With 160, 250 of the 2048 bytes of memory are never
 * used. At 10 readings a second they bridge 16 s. */
#ifndef RING_READINGS
#define RING_READINGS 160
#endif

#endif
