export const greeting = "Hello"
