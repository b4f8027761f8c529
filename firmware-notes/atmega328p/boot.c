#include "boot.h"

#include <avr/eeprom.h>
#include <avr/io.h>
#include <avr/pgmspace.h>
#include <avr/wdt.h>

/* Two places, written in turn: if power fails while one is being written, the other still
 * holds the number before, and the same number is given again: nothing was sent under it.
 * Each place stands 100,000 writes, so the pair 200,000 starts. */
struct place {
    uint16_t count;
    uint16_t inverse;
};
static struct place EEMEM places[2];

/* Not in .bss, which is cleared after the code below has run. */
static uint8_t cause __attribute__((section(".noinit")));

/* The watchdog stays on, at 16 ms, after it has reset the chip. If it is not switched off
 * before anything else, start-up takes too long and the chip resets for ever. */
void boot_first(void) __attribute__((naked, used, section(".init3")));
void boot_first(void)
{
    cause = MCUSR;
    MCUSR = 0; /* while WDRF is set there, the watchdog cannot be switched off */
    wdt_disable();
}

uint16_t boot_count(void)
{
    uint16_t count = 0;
    struct place place;

    for (uint8_t i = 0; i < 2; i++) {
        eeprom_read_block(&place, &places[i], sizeof place);
        /* Compared as numbers on a circle, so that 1 is newer than 65534. */
        if ((place.count ^ place.inverse) == 0xFFFF && place.count != 0 &&
            (count == 0 || (int16_t)(place.count - count) > 0))
            count = place.count;
    }
    if (++count == 0xFFFF) /* 65534 is followed by 1: in turn stays in turn */
        count = 1;
    place.count = count;
    place.inverse = ~count;
    eeprom_update_block(&place, &places[count & 1], sizeof place);
    return count;
}

const char *boot_cause(void)
{
    if (cause & _BV(WDRF))
        return PSTR("watchdog");
    if (cause & _BV(BORF))
        return PSTR("brownout");
    if (cause & _BV(EXTRF))
        return PSTR("reset");
    if (cause & _BV(PORF))
        return PSTR("power");
    return PSTR("unknown");
}
