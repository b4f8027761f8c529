/* Which start this is, and what caused it. */
#ifndef BOOT_H
#define BOOT_H

#include <stdint.h>

/* Counts this start and returns its number, 1 to 65534. It is kept in EEPROM; call it once. */
uint16_t boot_count(void);

/* A text in flash: "power", "reset", "brownout", "watchdog", or "unknown" behind a bootloader that clears the
 * register that tells (Optiboot does). */
const char *boot_cause(void);

#endif
