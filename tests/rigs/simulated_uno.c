/* An Arduino Uno without hardware: an ATmega328P (simavr) whose UART is a pseudo-terminal.
 *
 *     simulated_uno ELF LINK [--eeprom FILE] [--reset-on-open]
 *
 * LINK becomes a symbolic link to the terminal, as those below /dev/serial/by-id are. Each line
 * on standard input is a command, answered by one line:
 *
 *     plug, unplug         the cable; the board goes on, as one with a supply of its own does.
 *                          It is unplugged at the start.
 *     reset                the reset button
 *     power                a power cycle: memory is lost, the EEPROM is not
 *     stop-clock           timer 1 interrupts no more: firmware that waits for it hangs
 *     drop N               the next N bytes of the board do not arrive
 *     noise N              flip a bit in every Nth byte, both ways; 0 for none
 *     volts CHANNEL MV     what an analogue input sees, in millivolts
 *     reader               whether somebody has the terminal open
 *     stack                the least room that the stack has had so far, in bytes
 *
 * The end of standard input ends the program. What the board says while nobody has the terminal
 * open is lost, as with a USB adapter.
 *
 * simavr itself runs as fast as it can, apart from sleeping; and its own pty part needs a thread
 * and fixed names in /tmp. Here one thread runs a millisecond of the chip at a time and then
 * waits for the clock, so that the board keeps time with the world.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_adc.h>
#include <simavr/avr_eeprom.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

#define FREQUENCY 16000000u
#define STEP_CYCLES (FREQUENCY / 1000)
#define STEP_NS 1000000
#define BEHIND_NS_MAX 1000000000 /* what a stalled machine may have to catch up; the rest is skipped */
#define EEPROM_BYTES 1024
#define TIMSK1 0x6F
#define OUTPUT_BYTES 4096
#define INPUT_BYTES 256

static avr_t *avr;
static elf_firmware_t firmware;
static const char *link_path, *eeprom_path;
static bool reset_on_open;

static int terminal = -1;
static bool opened; /* somebody has the terminal open */

static FILE *answers; /* standard output, which simavr writes to as well, is moved aside */

static uint8_t output[OUTPUT_BYTES];
static size_t output_length;
static uint8_t input[INPUT_BYTES];
static size_t input_length;
static avr_cycle_count_t input_due;

static unsigned long drop, noise, noise_count;
static uint16_t stack_lowest = UINT16_MAX;

static void fail(const char *what)
{
    fprintf(stderr, "simulated_uno: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint8_t through_noise(uint8_t byte)
{
    if (noise && ++noise_count % noise == 0)
        byte ^= 1 << (noise_count / noise % 8);
    return byte;
}

/* --- The board ---------------------------------------------------------------- */

static void on_output(struct avr_irq_t *irq, uint32_t value, void *param)
{
    (void)irq, (void)param;
    if (drop) {
        drop--;
        return;
    }
    if (output_length < sizeof output)
        output[output_length++] = through_noise(value);
}

static void no_sleep(struct avr_t *chip, avr_cycle_count_t cycles)
{
    (void)chip, (void)cycles; /* the pace is kept elsewhere */
}

static void eeprom(uint32_t what, uint8_t *bytes)
{
    avr_eeprom_desc_t all = {.ee = bytes, .offset = 0, .size = EEPROM_BYTES};

    if (avr_ioctl(avr, what, &all) == -2) /* -1 is its success */
        fail("EEPROM");
}

static void eeprom_load(void)
{
    uint8_t bytes[EEPROM_BYTES];
    int file = open(eeprom_path, O_RDONLY);

    memset(bytes, 0xFF, sizeof bytes);
    if (file >= 0) {
        if (read(file, bytes, sizeof bytes) < 0)
            fail(eeprom_path);
        close(file);
    }
    eeprom(AVR_IOCTL_EEPROM_SET, bytes);
}

static void eeprom_save(void)
{
    uint8_t bytes[EEPROM_BYTES];
    int file;

    if (!eeprom_path)
        return;
    eeprom(AVR_IOCTL_EEPROM_GET, bytes);
    file = open(eeprom_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || write(file, bytes, sizeof bytes) != sizeof bytes)
        fail(eeprom_path);
    close(file);
}

static void board_begin(const char *elf)
{
    memset(&firmware, 0, sizeof firmware);
    if (elf_read_firmware(elf, &firmware))
        fail(elf);
    avr = avr_make_mcu_by_name("atmega328p");
    if (!avr || avr_init(avr))
        fail("no ATmega328P");
    avr_load_firmware(avr, &firmware);
    avr->frequency = FREQUENCY;
    avr->vcc = avr->avcc = avr->aref = 5000;
    avr->log = LOG_NONE;
    avr->sleep = no_sleep;
    uint32_t flags = 0; /* no waiting while polling, no copy on the console */
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    if (eeprom_path)
        eeprom_load();
}

static void board_reset(bool power)
{
    output_length = input_length = 0;
    avr_reset(avr);
    if (power) { /* memory comes up with anything in it; zeros would hide a mistake */
        memset(avr->data + avr->ioend + 1, 0xA5, avr->ramend - avr->ioend);
        avr_regbit_set(avr, avr->reset_flags.porf);
    } else {
        avr_regbit_set(avr, avr->reset_flags.extrf);
    }
}

static void board_step(void)
{
    avr_irq_t *rx = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_cycle_count_t end = avr->cycle + STEP_CYCLES;

    while (avr->cycle < end) {
        if (input_length && avr->cycle >= input_due) { /* at the pace of the line: 10 bits at 115,200 baud */
            avr_raise_irq(rx, through_noise(input[0]));
            memmove(input, input + 1, --input_length);
            input_due = avr->cycle + FREQUENCY / 11520;
        }
        int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fprintf(stderr, "simulated_uno: the chip has stopped (state %d)\n", state);
            exit(1);
        }
        uint16_t stack = avr->data[R_SPL] | avr->data[R_SPH] << 8;
        if (stack > avr->ioend && stack < stack_lowest) /* before it is set up it is 0 */
            stack_lowest = stack;
    }
}

/* --- The cable ---------------------------------------------------------------- */

static void unplug(void)
{
    if (terminal < 0)
        return;
    unlink(link_path);
    close(terminal);
    terminal = -1;
    opened = false;
    output_length = input_length = 0;
}

static const char *plug(void)
{
    struct termios raw;
    const char *name;
    int slave;

    unplug();
    terminal = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal))
        fail("pseudo-terminal");
    name = ptsname(terminal);
    /* Its settings stay when it is closed again. Raw, so that nothing is echoed or turned into signals. */
    slave = open(name, O_RDWR | O_NOCTTY);
    if (slave < 0 || tcgetattr(slave, &raw))
        fail(name);
    cfmakeraw(&raw);
    if (tcsetattr(slave, TCSANOW, &raw))
        fail(name);
    close(slave);
    unlink(link_path);
    if (symlink(name, link_path))
        fail(link_path);
    return name;
}

static void exchange(void)
{
    if (terminal >= 0) {
        struct pollfd state = {.fd = terminal, .events = POLLIN};
        bool before = opened;

        poll(&state, 1, 0);
        opened = !(state.revents & POLLHUP);
        if (opened && !before && reset_on_open)
            board_reset(false);
        if (opened && output_length && write(terminal, output, output_length) < 0 && errno != EAGAIN)
            fail("terminal");
        if (state.revents & POLLIN) {
            ssize_t got = read(terminal, input + input_length, sizeof input - input_length);
            if (got > 0)
                input_length += got;
        }
    }
    output_length = 0; /* what was not taken is gone: a UART does not wait */
}

/* --- Commands ----------------------------------------------------------------- */

static void obey(const char *command)
{
    unsigned long first, second;

    if (!strcmp(command, "plug")) {
        fprintf(answers, "plugged %s\n", plug());
        return;
    }
    if (!strcmp(command, "stack")) {
        fprintf(answers, "stack %d\n", stack_lowest - 0xFF - (int)(firmware.datasize + firmware.bsssize));
        return;
    }
    if (!strcmp(command, "reader")) {
        fprintf(answers, opened ? "reader yes\n" : "reader no\n");
        return;
    }
    if (!strcmp(command, "unplug"))
        unplug();
    else if (!strcmp(command, "reset"))
        board_reset(false);
    else if (!strcmp(command, "power"))
        board_reset(true);
    else if (!strcmp(command, "stop-clock"))
        avr->data[TIMSK1] = 0;
    else if (sscanf(command, "drop %lu", &first) == 1)
        drop = first;
    else if (sscanf(command, "noise %lu", &first) == 1)
        noise = first, noise_count = 0;
    else if (sscanf(command, "volts %lu %lu", &first, &second) == 2)
        avr_raise_irq(avr_io_getirq(avr, AVR_IOCTL_ADC_GETIRQ, ADC_IRQ_ADC0 + first), second);
    else {
        fprintf(answers, "unknown: %s\n", command);
        return;
    }
    fprintf(answers, "done\n");
}

/* Waits for commands until the next step is due; false at the end of the input. */
static bool listen_until(int64_t wait_ns)
{
    static char line[128];
    static size_t length;
    struct timespec wait = {.tv_nsec = wait_ns > 0 ? wait_ns : 0};
    struct pollfd commands = {.fd = STDIN_FILENO, .events = POLLIN};
    char piece[64];
    ssize_t got;

    if (ppoll(&commands, 1, &wait, NULL) <= 0)
        return true;
    got = read(STDIN_FILENO, piece, sizeof piece);
    if (got <= 0)
        return false;
    for (ssize_t i = 0; i < got; i++) {
        if (piece[i] == '\n') {
            line[length] = 0;
            length = 0;
            obey(line);
            fflush(answers);
        } else if (length < sizeof line - 1) {
            line[length++] = piece[i];
        }
    }
    return true;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static volatile sig_atomic_t told_to_end;

static void on_signal(int number)
{
    (void)number;
    told_to_end = 1;
}

int main(int argc, char **argv)
{
    int64_t due;

    if (argc < 3) {
        fprintf(stderr, "usage: simulated_uno ELF LINK [--eeprom FILE] [--reset-on-open]\n");
        return 2;
    }
    link_path = argv[2];
    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "--reset-on-open"))
            reset_on_open = true;
        else if (!strcmp(argv[i], "--eeprom") && i + 1 < argc)
            eeprom_path = argv[++i];
    }
    answers = fdopen(dup(STDOUT_FILENO), "w");
    if (!answers || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        fail("standard output");
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    board_begin(argv[1]);
    due = now_ns();
    while (!told_to_end) {
        int64_t behind_ns;

        board_step();
        exchange();
        due += STEP_NS;
        behind_ns = now_ns() - due;
        if (behind_ns > BEHIND_NS_MAX)
            due += behind_ns - BEHIND_NS_MAX;
        if (!listen_until(-behind_ns))
            break;
    }
    unplug();
    eeprom_save();
    return 0;
}
